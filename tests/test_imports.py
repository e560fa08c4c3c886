"""What ``import metalit`` loads: nothing heavy before something heavy is asked for."""

import os
import subprocess
import sys

import pytest

import metalit

HEAVY = ("torch", "numpy", "lightning", "torchmetrics", "matplotlib", "rich", "wandb", "jsonargparse", "yaml")
WITHOUT_LIGHTNING = (
    "episode", "outcome", "functional", "tasks", "networks", "heads", "objectives", "update_rules", "engine",
)  # fmt: skip


def loaded(program):
    """Which heavy modules a fresh Python has loaded after a program."""
    report = f"{program}\nimport sys\nprint(*[name for name in {(*HEAVY, 'torch._dynamo')} if name in sys.modules])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", report], check=True, capture_output=True, text=True, env=environment)
    return set(done.stdout.split())


def test_the_package_alone_loads_nothing():
    assert loaded("import metalit; metalit.__version__; dir(metalit)") == set()


def test_the_mathematics_load_torch_alone():
    imports = "; ".join(f"import metalit.{package}" for package in WITHOUT_LIGHTNING)
    assert loaded(f"{imports}; from metalit import Engine, Episode, Labelled, Outcome") <= {"torch", "numpy"}


def test_every_export_is_there():
    assert set(metalit.__all__) <= set(dir(metalit))
    for name in metalit.__all__:
        assert getattr(metalit, name).__name__ == name


def test_what_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'metalit' has no attribute 'MALM'"):
        metalit.MALM  # noqa: B018
    with pytest.raises(ImportError, match="MALM"):
        from metalit import MALM  # noqa: F401
