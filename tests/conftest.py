"""Fixtures that several folders of tests share."""

import os
import sys
import zlib
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"  # no test may reach a server, on whosever machine


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave all rows but one of n to the slow tests, by a hash of their names, where a test is marked ``sample(n)``."""
    for item in items:
        mark = item.get_closest_marker("sample")
        if mark and zlib.crc32(item.name.encode()) % mark.args[0]:
            item.add_marker("slow")


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
