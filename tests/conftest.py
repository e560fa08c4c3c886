"""Fixtures that several folders of tests share."""

import gc
import os
import sys
import zlib
from pathlib import Path

import pytest

from selection import algorithms_of, check_names, marks_of

gc.disable()  # until tests run: what is imported and collected stays, and is looked through in vain
os.environ["WANDB_MODE"] = "offline"  # no test may reach a server, on whosever machine


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare ``--algorithm``."""
    parser.addoption(
        "--algorithm",
        action="append",
        default=[],
        metavar="NAME",
        help="only the tests of this algorithm, the slow ones too; the exact name of the class; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Check the names of algorithms, and lift ``-m "not slow"`` for them unless it was given beside them."""
    if names := config.getoption("--algorithm"):
        check_names(names)
        if not any(str(arg).startswith("-m") for arg in config.invocation_params.args):
            config.option.markexpr = ""


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave all rows but one of n to the slow tests, by a hash of their names, where a test is marked ``sample(n)``.

    Mark what goes by a test's place and row. With ``--algorithm`` leave out what does not belong to it.
    """
    for item in items:
        for name in marks_of(item):
            item.add_marker(name)
        mark = item.get_closest_marker("sample")
        if mark and zlib.crc32(item.name.encode()) % mark.args[0]:
            item.add_marker("slow")
    if names := set(config.getoption("--algorithm")):
        others = [item for item in items if names.isdisjoint(algorithms_of(item))]
        items[:] = [item for item in items if not names.isdisjoint(algorithms_of(item))]
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, but not among what was imported and collected."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets; never written to."""
    named = os.environ.get("METALIT_TEST_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if folder.is_dir():
        return folder
    if named:
        pytest.fail(f"METALIT_TEST_DATA is {named}, which is not a folder")
    pytest.skip("needs real data: set METALIT_TEST_DATA to the folder that holds them")


@pytest.fixture(autouse=True)
def compiled_code_is_forgotten():
    """Every learner compiles the same lines anew, and torch allows that eight times in a process."""
    yield
    if "torch._dynamo" in sys.modules:
        sys.modules["torch._dynamo"].reset()
