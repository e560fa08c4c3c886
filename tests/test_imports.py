"""What ``import metalit`` loads: nothing heavy before something heavy is asked for."""

import json
import os
import shlex
import subprocess
import sys

import pytest

import metalit

HEAVY = ("torch", "numpy", "lightning", "torchmetrics", "matplotlib", "rich", "wandb", "jsonargparse", "yaml")
WITHOUT_LIGHTNING = (
    "episode", "outcome", "functional", "tasks", "networks", "heads", "objectives", "update_rules", "engine",
)  # fmt: skip


# commands that need no networks, with their exit code; a word that is no command is a mistake too
WITHOUT_TORCH = {
    "": 2, "--help": 0, "-h": 0, "--version": 0, "fitt": 2, "status": 2, "status --help": 0, "status nowhere": 2,
    "status job": 0, "logs --help": 0, "logs job": 0, "logs job --folow": 2, "cancel --help": 0, "cancel job": 0,
}  # fmt: skip
RUN_ALL = """
import sys
from metalit.main import main
for words in {!r}:
    try:
        main(words)
        print("exit", 0)
    except SystemExit as end:
        print("exit", end.code)
"""


def loaded(program):
    """Which heavy modules a fresh Python has loaded after a program."""
    report = f"{program}\nimport sys\nprint(*[name for name in {(*HEAVY, 'torch._dynamo')} if name in sys.modules])"
    return set(" ".join(printed(report)).split())


def printed(program):
    """The lines that a program prints in a fresh Python."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=environment)
    return done.stdout.splitlines()


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


def test_commands_without_networks_load_neither_torch_nor_lightning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = {"name": "", "folder": "/job", "id": "1", "log": "/job/logs/1.log"}
    record = {"cluster": "metalit.cluster.Local", "id": "1", "folder": "/job", "tasks": [task]}
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "job.json").write_text(json.dumps(record))
    # one process for all, so that each is also shown to leave nothing heavy to the next
    program = RUN_ALL.format([shlex.split(words) for words in WITHOUT_TORCH])
    said = printed(f"{program}\nprint('loaded', *[name for name in {HEAVY} if name in sys.modules])")
    codes = [int(line.split()[1]) for line in said if line.startswith("exit ")]
    assert dict(zip(WITHOUT_TORCH, codes, strict=True)) == WITHOUT_TORCH
    # the parser and the files it reads; both are small
    assert set(said[-1].split()[1:]) <= {"jsonargparse", "yaml"}
