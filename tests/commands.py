"""Running the command line within a test, and experiments that take a second."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from metalit.cli import MetalitCLI
from metalit.main import main

NULL = "null, not absent"
CONV4 = {"class_path": "metalit.networks.Conv4", "init_args": {"channels": 4}}
GLYPHS = {
    "class_path": "metalit.data.Glyphs",
    "init_args": {
        "classes": 8,
        "eval_classes": 5,
        "queries": 2,
        "tasks_per_batch": 2,
        "eval_tasks_per_batch": 2,
        "episodes_per_epoch": 8,  # 4 steps
        "val_episodes": 4,
        "test_episodes": 4,
    },
}
TRAINER = {
    "max_steps": 2,
    "log_every_n_steps": 1,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


def maml(**options: Any) -> dict[str, Any]:
    """Return the settings of MAML on Glyphs."""
    network = {"class_path": "metalit.networks.Classifier", "init_args": {"body": CONV4}}
    model = {"class_path": "metalit.algorithms.MAML", "init_args": {"network": network, **options}}
    return deepcopy({"model": model, "data": GLYPHS, "trainer": TRAINER})


def protonet(**options: Any) -> dict[str, Any]:
    """Return the settings of prototypical networks on Glyphs, with running statistics."""
    network = {"class_path": "metalit.networks.Conv4", "init_args": {"channels": 4, "batch_norm": "running"}}
    model = {
        "class_path": "metalit.algorithms.PrototypicalNetwork",
        "init_args": {"network": network, **options},
    }
    return deepcopy({"model": model, "data": GLYPHS, "trainer": TRAINER})


def changed(settings: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return settings with changes: ``{"data.init_args.ways": 3}``; None takes a setting away, NULL makes it null."""
    settings = deepcopy(settings)
    for path, value in changes.items():
        *way, last = path.split(".")
        place = settings
        for key in way:
            place = place.setdefault(key, {})
        if value is None:
            del place[last]
        else:
            place[last] = None if value == NULL else value
    return settings


def write_yaml(path: Path, settings: Any) -> str:
    """Write a configuration file and return its name."""
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return str(path)


def read_options(monkeypatch: pytest.MonkeyPatch, args: Sequence[str]) -> Any:
    """Return the settings that a command line leads to, without running it."""

    class OptionsReadError(Exception):
        pass

    def stop(cli: MetalitCLI) -> None:
        raise OptionsReadError(cli.config[cli.subcommand])

    with monkeypatch.context() as patch:
        patch.setattr(MetalitCLI, "before_instantiate_classes", stop)
        with pytest.raises(OptionsReadError) as caught:
            main(args)
    return caught.value.args[0]


def complaint(capsys: pytest.CaptureFixture[str], run: Callable[[], None]) -> str:
    """Return the one line with which a command ends, after seeing that it ends as a mistake should."""
    with pytest.raises(SystemExit) as caught:
        run()
    assert caught.value.code == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert err.endswith(lines[0] + "\n")
    return lines[0].removeprefix("error: ")
