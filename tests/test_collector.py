"""Imports without the collector of reference cycles."""

import gc
import subprocess
import sys

import pytest

from metalit.collector import importing


def test_nothing_is_collected_meanwhile():
    exempt = gc.get_freeze_count()
    with importing(for_good=False):
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == exempt


def test_the_collector_is_on_again_after_an_import_that_failed():
    with pytest.raises(ImportError), importing(for_good=False):
        raise ImportError("nothing there")
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off():
    gc.disable()
    try:
        with importing(for_good=False):
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


PROGRAM = """
import gc, sys
from metalit.main import main
try:
    main({args})
except SystemExit:
    print(gc.isenabled(), gc.get_freeze_count() > 0)
"""


@pytest.mark.parametrize(("args", "frozen"), [("", True), ("['--version']", False)])
def test_only_a_process_of_its_own_is_exempt_from_collections(args, frozen):
    command = [sys.executable, "-c", PROGRAM.format(args=args), "--version"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == f"True {frozen}"
