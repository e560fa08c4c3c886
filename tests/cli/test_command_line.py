"""The command line: its options, its help, its run folders, and what it leaves and says."""

import importlib
import inspect
import json
import logging
import os
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningCLI

import metalit.algorithms
import metalit.data
from commands import CONV4, changed, complaint, maml, protonet, read_options, write_yaml
from metalit.cli import MetalitCLI, noise
from metalit.main import main
from metalit.runs import new_folder

ROOT = Path(__file__).parents[2]
FINAL = [
    f"{package.__name__}.{name}"
    for package in (metalit.algorithms, metalit.data, importlib.import_module("metalit.networks"))
    for name in package.__all__
    if inspect.isclass(cls := getattr(package, name)) and not inspect.isabstract(cls)
]
LEARNERS = [name for name in FINAL if "algorithms" in name]
DATA = [name for name in FINAL if ".data." in name and hasattr(getattr(metalit.data, name.rpartition(".")[2]), "setup")]
NETWORKS = [name for name in FINAL if "networks" in name]


def help_of(capsys, *args):
    with pytest.raises(SystemExit) as caught:
        main(args)
    assert caught.value.code in (0, None)
    return capsys.readouterr().out


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder of MAML after two steps, and the file it was trained from."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_yaml(folder / "c.yaml", maml())
    main(["fit", "--config", config, "--run_dir", str(folder / "run")])
    return folder / "run", config


# options


def test_both_programs_are_the_same():
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"metalit": "metalit.main:main"}
    assert "from metalit.main import main" in (ROOT / "train.py").read_text()


def test_bare_class_names(monkeypatch):
    args = [
        "fit",
        "--model",
        "FOMAML",
        "--data",
        "Glyphs",
        "--model.network",
        "Classifier",
        "--model.network.body",
        "Conv4",
    ]
    options = read_options(monkeypatch, [*args, "--model.network.body.channels", "4", "--data.ways", "3"])
    model = options.model.init_args
    assert options.model.class_path.endswith(".FOMAML")
    assert model.network.init_args.body.init_args.channels == 4
    assert model.network.init_args.ways == options.data.init_args.ways == 3


def test_later_files_and_options_win(tmp_path, monkeypatch):
    first = write_yaml(tmp_path / "1.yaml", maml(inner_steps=1, inner_lr=0.1))
    second = write_yaml(tmp_path / "2.yaml", {"model": {"init_args": {"inner_steps": 2, "inner_lr": 0.2}}})
    third = write_yaml(tmp_path / "3.yaml", {"model": {"init_args": {"inner_steps": 3}}, "trainer": {"max_steps": 9}})
    files = ["--config", first, "--config", second, "--config", third]
    options = read_options(monkeypatch, ["fit", *files, "--model.inner_lr", "0.4"])
    assert (options.model.init_args.inner_steps, options.model.init_args.inner_lr) == (3, 0.4)
    assert options.model.class_path.endswith(".MAML")
    assert options.trainer.max_steps == 9
    assert options.data.init_args.classes == maml()["data"]["init_args"]["classes"]


def test_printed_configuration_can_be_used(tmp_path, capsys, monkeypatch):
    config = write_yaml(tmp_path / "c.yaml", maml())
    printed = help_of(capsys, "fit", "--config", config, "--model.inner_steps", "3", "--print_config")
    (tmp_path / "printed.yaml").write_text(printed)
    options = read_options(monkeypatch, ["fit", "--config", str(tmp_path / "printed.yaml")])
    assert options.model.init_args.inner_steps == 3
    given = read_options(monkeypatch, ["fit", "--config", config, "--model.inner_steps", "3"])
    same = {key: value for key, value in given.items() if key != "config"}
    assert {key: value for key, value in options.items() if key != "config"} == same


def test_networks_ways_follow_the_datas(tmp_path, monkeypatch):
    config = write_yaml(tmp_path / "c.yaml", maml())
    options = read_options(monkeypatch, ["fit", "--config", config, "--data.ways", "4"])
    assert options.model.init_args.network.init_args.ways == 4


def test_a_memory_based_learners_ways_follow_the_datas(monkeypatch):
    config = str(ROOT / "configs" / "omniglot" / "snail.yaml")
    assert read_options(monkeypatch, ["fit", "--config", config, "--data.ways", "4"]).model.init_args.ways == 4


# help


def test_help_names_the_commands(capsys):
    text = help_of(capsys, "--help")
    assert all(command in text for command in ("fit", "validate", "test", "predict"))


@pytest.mark.parametrize("command", ["fit", "test"])
def test_every_own_option_has_help(command, capsys):
    text = help_of(capsys, command, "--help")
    for option in (
        "run_dir",
        "checkpoint.monitor",
        "checkpoint.mode",
        "seed_everything",
        "ckpt_path",
        "config",
    ):
        assert re.search(rf"--{option} [^\n]*\s+\w+ \w+", text), option
    assert "Model Registry" not in text
    for name in [*LEARNERS, *DATA]:
        assert name.rpartition(".")[2] in text


def test_help_has_the_options_of_lightnings_trainer_apart(capsys):
    own = help_of(capsys, "fit", "--help")
    assert "--model" in own
    assert "--help=trainer" in own
    assert "--trainer." not in own
    assert len(own.splitlines()) < 170
    trainers = help_of(capsys, "fit", "--help=trainer")
    assert "--trainer.devices" in trainers
    assert "--data" not in trainers.partition("Linked arguments")[0].partition("\n\n")[2]
    assert "--trainer.devices" not in help_of(capsys, "fit", "--help=data")
    line = complaint(capsys, lambda: main(["fit", "--help=trainr"]))
    assert line == "help: there is no group of options trainr; did you mean trainer?"
    assert "there are checkpoint, data, model" in complaint(capsys, lambda: main(["fit", "--help=zzz"]))


@pytest.mark.parametrize(
    ("group", "name"),
    [("model", name) for name in LEARNERS]
    + [("data", name) for name in DATA]
    + [("model.network", name) for name in NETWORKS],
)
@pytest.mark.sample(3)
def test_every_argument_is_documented(group, name, capsys):
    if group == "model.network":
        text = help_of(capsys, "fit", "--model=MAML", f"--model.network.help={name}")
    else:
        text = help_of(capsys, "fit", f"--{group}.help", name.rpartition(".")[2])
    blocks = re.split(r"\n  (?=--)", text.partition("Help for")[2])[1:]
    documented = {}
    for block in blocks:
        option, words = re.match(r"--(\S+)(.*)", block, re.DOTALL).groups()
        documented[option] = " ".join(words.split())
    options = {option: words for option, words in documented.items() if not option.endswith(".help")}
    cls = getattr(importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2])
    own = [p.name for p in inspect.signature(cls).parameters.values() if p.kind != inspect.Parameter.VAR_KEYWORD]
    # a group of settings, as model.engine, is there by its members
    assert all(any(f".{argument}." in f"{option}." for option in options) for argument in own)
    for option, words in options.items():
        assert "type: " in words, f"{option} has no type"
        assert re.search(r"[a-zA-Z]{2,}[^(]* \((required, )?type: ", words), f"{option} has no help: {words}"


def test_help_names_networks_and_not_everything_there_is():
    # in a process of its own, which knows no classes but a user's
    command = [sys.executable, "-m", "metalit", "fit", "--model.help", "MAML"]
    environment = {**os.environ, "COLUMNS": "80"}
    text = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "Conv4" in text
    assert "BatchRenorm2d" not in text  # a part of networks
    assert "torchmetrics" not in text
    assert len(text.splitlines()) < 170


# run folders


def test_fit_says_where_things_are_and_what_to_do_next(tmp_path, capsys):
    run, config = tmp_path / "my run", write_yaml(tmp_path / "c.yaml", maml())
    main(["fit", "--config", config, "--run_dir", str(run)])
    out = capsys.readouterr().out
    assert f"The run is in {run}, best val/loss " in out
    command = shlex.split(re.search(r"python train.py (test .*)", out)[1])
    assert {"config.yaml", "metrics.csv", "learning_curves.png", "checkpoints"} <= {path.name for path in run.iterdir()}
    main(command)
    assert json.loads((run / "results.json").read_text())["checkpoint"] == str(run / "checkpoints" / "best.ckpt")


def test_options_win_over_the_checkpoints(trained):
    run, config = trained
    args = ["--config", config, "--ckpt_path", str(run / "checkpoints" / "best.ckpt")]
    main(["test", *args, "--model.inner_steps", "10", "--data.queries", "3"])
    results = json.loads((run / "results.json").read_text())  # a checkpoint's run folder is that of its results
    assert results["setting"]["inner_steps"] == 10
    assert results["setting"]["queries"] == 3
    assert all(len(values) == 11 for values in results["by_step"].values())


def test_lightning_would_let_the_checkpoints_options_win():
    # if this method is no more, see what does its work now, and keep it from overriding the user
    assert "hyper_parameters" in inspect.getsource(LightningCLI._parse_ckpt_path)
    assert MetalitCLI._parse_ckpt_path is not LightningCLI._parse_ckpt_path


def test_configuration_of_a_run_starts_another(trained, tmp_path, monkeypatch):
    run, _ = trained
    saved = yaml.safe_load((run / "config.yaml").read_text())
    body = saved["model"]["init_args"]["network"]["init_args"]["body"]["init_args"]
    assert body.items() > CONV4["init_args"].items()  # what was given, and what was not
    monkeypatch.chdir(tmp_path)
    main(["fit", "--config", str(run / "config.yaml")])
    (folder,) = (tmp_path / "runs" / "glyphs-maml").iterdir()
    assert yaml.safe_load((folder / "config.yaml").read_text()) == saved
    first, second = (
        torch.load(f / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for f in (run, folder)
    )
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_configuration_in_the_folder_is_kept(tmp_path):
    run, config = (
        str(tmp_path / "run"),
        write_yaml(tmp_path / "c.yaml", changed(protonet(), {"trainer.logger": False})),
    )
    for lr_steps in (1, 1, 2):
        main(["fit", "--config", config, "--run_dir", run, "--trainer.max_steps", str(lr_steps)])
    found = {path.name: yaml.safe_load(path.read_text())["trainer"] for path in (tmp_path / "run").glob("config*.yaml")}
    assert {name: trainer["max_steps"] for name, trainer in found.items()} == {
        "config.yaml": 2,
        "config-1.yaml": 1,
    }


def test_new_runs_never_share_a_folder(tmp_path):
    folders = []
    for _ in range(3):
        folders.append(new_folder(tmp_path / "now"))
        folders[-1].mkdir()
    assert [folder.name for folder in folders] == ["now", "now~2", "now~3"]


def test_without_a_checkpoint_the_model_is_said_to_be_untrained(trained, tmp_path, caplog):
    with caplog.at_level("INFO"):
        main(["validate", "--config", trained[1], "--run_dir", str(tmp_path / "run")])
    assert "before any training" in caplog.text
    assert json.loads((tmp_path / "run" / "results.json").read_text())["checkpoint"] is None


def test_predict(trained, tmp_path):
    run, config = trained
    args = ["--run_dir", str(tmp_path), "--ckpt_path", str(run / "checkpoints" / "last.ckpt")]
    main(["predict", "--config", config, *args])
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + 4 * 5 * 2


# what is said


def test_no_noise(tmp_path, caplog, monkeypatch):
    config = write_yaml(tmp_path / "c.yaml", maml())
    monkeypatch.setattr("sys.argv", ["train.py", "fit"])
    with warnings.catch_warnings(record=True) as caught, caplog.at_level("INFO"):
        warnings.simplefilter("always")
        for _ in range(2):  # the second time the folder is not empty
            main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])
    said = [str(warning.message) for warning in caught if not issubclass(warning.category, DeprecationWarning)]
    assert not [text for text in said if re.match("|".join(noise.NO_USE), text)]
    assert not [text for text in caplog.messages if "Tip:" in text or "weights_only" in text]
    assert "Seed set to 0" in caplog.text


def test_noise_is_what_lightning_says(caplog):
    # a filter for something that Lightning does not say any more has to go
    lightning = Path(inspect.getfile(L)).parent
    sources = "".join(path.read_text() for path in lightning.rglob("*.py"))
    joined = re.sub(r"\"\s*f?\"", "", sources)
    for part in noise.NO_NEWS:
        assert part in joined, part
    for pattern in noise.NO_USE[1:]:  # the first is torch's, of what Lightning does
        assert max(pattern.split(".*"), key=len) in joined, pattern


def test_main_leaves_warnings_and_logging_as_they_were(tmp_path):
    filters, config = list(warnings.filters), write_yaml(tmp_path / "c.yaml", maml())
    main(["fit", "--config", config, "--trainer.fast_dev_run", "1", "--run_dir", str(tmp_path / "run")])
    assert warnings.filters == filters
    names = [f"{package}.{name}" for package in noise.PACKAGES for name in noise.TALKATIVE]
    assert not any(noise.is_news in logging.getLogger(name).filters for name in names)
