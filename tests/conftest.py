"""Fixtures that several folders of tests share."""

import os
import sys
from pathlib import Path

import pytest

os.environ["WANDB_MODE"] = "offline"  # no test may reach a server, on whosever machine


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
