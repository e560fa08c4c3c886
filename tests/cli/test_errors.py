"""Every mistake that a user can make is one line that names the option, and a bug of ours is a traceback."""

import multiprocessing
import re
import socket
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from commands import NULL, changed, complaint, maml, protonet, write_yaml
from metalit.algorithms import MAML
from metalit.main import main
from metalit.runs import claim
from miniature import write_omniglot

MODEL, DATA = "model.init_args.", "data.init_args."
NETWORK, BODY = MODEL + "network", MODEL + "network.init_args.body"
STEP_LR = "torch.optim.lr_scheduler.StepLR"
EARLY_STOPPING = {"class_path": "lightning.pytorch.callbacks.EarlyStopping"}

# changes of a right configuration, the option that must be named, what else must be said
IN_FILES = {
    # misspelt names
    "top": ({"modle": {"class_path": "MAML"}}, "modle", "did you mean model?"),
    "model": ({MODEL + "inner_stepss": 1}, "model.inner_stepss", "MAML has no .* did you mean model.inner_steps?"),
    "data": ({DATA + "shot": 1}, "data.shot", "Glyphs has no .* did you mean data.shots?"),
    "network": ({NETWORK + ".init_args.bdy": 1}, "model.network.bdy", "Classifier .* did you mean model.network.body?"),
    "in network": ({BODY + ".init_args.chanels": 1}, "model.network.body.chanels", "Conv4 .*network.body.channels?"),
    "engine": ({MODEL + "engine": {"complie": True}}, "model.engine.complie", "did you mean model.engine.compile?"),
    "optimizer": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lrr": 1}}},
        "model.optimizer.lrr",
        "Adam has no .* did you mean model.optimizer.lr?",
    ),
    "schedule": (
        {MODEL + "lr_scheduler": {"class_path": STEP_LR, "init_args": {"stepsize": 1}}},
        "model.lr_scheduler.stepsize",
        "StepLR has no .* did you mean model.lr_scheduler.step_size?",
    ),
    "trainer": ({"trainer.max_step": 1}, "trainer.max_step", "did you mean trainer.max_steps?"),
    "checkpoint": ({"checkpoint.moniter": "val/loss"}, "checkpoint.moniter", "did you mean checkpoint.monitor?"),
    "unlike any": ({DATA + "zzz": 1}, "data.zzz", "Glyphs has no such option; see .*--help"),
    # wrong types
    "word for int": ({MODEL + "inner_steps": "five"}, "model.inner_steps", "found five, expected a whole number"),
    "fraction for int": ({MODEL + "inner_steps": 1.5}, "model.inner_steps", "found 1.5, expected a whole number"),
    "null for int": ({MODEL + "inner_steps": NULL}, "model.inner_steps", "found null, expected a whole number"),
    "word for float": ({MODEL + "inner_lr": "fast"}, "model.inner_lr", "found fast, expected a number"),
    "word for bool": ({DATA + "store_on_accelerator": "maybe"}, "data.store_on_accelerator", "expected true or false"),
    "list for int": ({DATA + "ways": [1, 2]}, "data.ways", "found .1, 2., expected a whole number"),
    "choice": ({MODEL + "engine": {"mapping": "map"}}, "model.engine.mapping", "found map, expected auto, vmap or "),
    "choice in network": (
        {BODY + ".init_args.batch_norm": "layer"},
        "model.network.body.batch_norm",
        "found layer, expected batch, running, renorm, none or null",
    ),
    "number for list": ({MODEL + "adapted": 3}, "model.adapted", "found 3, expected a list .each text."),
    "number for settings": ({MODEL + "engine": 3}, "model.engine", "found 3, expected its settings"),
    "null for settings": ({"checkpoint": NULL}, "checkpoint", "found null, expected its settings"),
    "number for trainer": ({"trainer": 3}, "trainer", "found 3, expected its settings"),
    "word for trainer": ({"trainer.max_steps": "lots"}, "trainer.max_steps", "found lots, expected a whole number"),
    "precision": ({"trainer.precision": "12"}, "trainer.precision", "found 12, expected .*bf16-mixed"),
    "seed": ({"seed_everything": "abc"}, "seed_everything", "found abc, expected true or false or a whole number"),
    "mode": ({"checkpoint.mode": "middle"}, "checkpoint.mode", "found middle, expected min or max"),
    "run_dir": ({"run_dir": [3]}, "run_dir", "found .3., expected text or null"),
    # classes
    "misspelt class": (
        {"model.class_path": "metalit.algorithms.MAMLL"},
        "model",
        "there is no class metalit.algorithms.MAMLL; did you mean metalit.algorithms.MAML?",
    ),
    "misspelt bare class": ({"data.class_path": "Glyfs"}, "data", "no class Glyfs; did you mean Glyphs?"),
    "misspelt module": ({"model.class_path": "metalitt.algorithms.MAML"}, "model", "no class metalitt.algorithms.MAML"),
    "misspelt network": ({BODY + ".class_path": "metalit.networks.Conv5"}, "model.network.body", "you mean .*Conv4?"),
    "misspelt optimizer": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adamm"}},
        "model.optimizer",
        "there is no class torch.optim.Adamm; did you mean torch.optim.Adam?",
    ),
    "misspelt module of an optimizer": (
        {MODEL + "optimizer": {"class_path": "torhc.optim.Adam"}},
        "model.optimizer",
        "there is no class torhc.optim.Adam; did you mean Adam?",
    ),
    "misspelt callback": (
        {"trainer.callbacks": [{"class_path": "EarlyStoping"}]},
        "trainer.callbacks",
        "no class EarlyStoping; did you mean EarlyStopping?",
    ),
    "option of callback": (
        {"trainer.callbacks": [EARLY_STOPPING | {"init_args": {"monitr": "x"}}]},
        "trainer.callbacks.monitr",
        "EarlyStopping has no .* did you mean trainer.callbacks.monitor?",
    ),
    "abstract class": ({"model.class_path": "metalit.algorithms.MetaLearner"}, "model", "abstract class; .*MAML"),
    "other kind": ({"model.class_path": "metalit.data.Glyphs"}, "model", "another kind of class; .* a MetaLearner"),
    "no class at all": ({NETWORK: 3}, "model.network", "found 3, expected a Module"),
    "empty class": ({MODEL + "optimizer": {"class_path": ""}}, "model.optimizer", "there is no class ''; expected"),
    "no optimizer": ({MODEL + "optimizer": {"class_path": "torch.nn.Linear"}}, "model.optimizer", "makes an Optimizer"),
    "no word for class": ({"data.class_path": ["a"]}, "data.class_path", "found .'a'., expected an EpisodicDataModule"),
    "null for class": ({"model.class_path": NULL}, "model.class_path", "found null, expected a MetaLearner"),
    # things missing or misplaced
    "no model": ({"model": None}, "model", "not given; use --config FILE"),
    "no network": ({NETWORK: None}, "model.network", "not given, but MAML needs it; .*, such as .*Classifier"),
    "no class": ({"model.class_path": None}, "model", "has no class_path; expected a MetaLearner, such as .*MAML"),
    "no network class": ({NETWORK + ".class_path": None}, "model.network", "has no class_path; expected a Module"),
    "beside class": ({"model.inner_steps": 3}, "model.inner_steps", "stands beside class_path; .* init_args"),
    "misspelt init_args": ({MODEL[:-1] + "s": {"a": 1}}, "model.init_argss", "stands .* did you mean init_args?"),
    "no name": ({NETWORK + ".init_args.a b": 1}, "model.network.a b", "there is no such option: names have no sp"),
    "in another group": ({"max_steps": 3}, "max_steps", "fit has no such option; did you mean trainer.max_steps?"),
    "number for class": ({BODY + ".class_path": 3}, "model.network.body.class_path", "found 3, expected a Module"),
    "word for settings": ({MODEL + "engine": "fast"}, "model.engine", "found fast, expected its settings"),
    # numbers that no option can use
    "huge": ({DATA + "shots": 2**70}, "data.shots", f"found {2**70}, which takes more than 64 bits"),
    "huge in a list": ({"trainer.devices": [2**70]}, "trainer.devices", "which takes more than 64 bits"),
    "nan": ({MODEL + "inner_lr": float("nan")}, "model.inner_lr", "found nan, expected a number"),
    "accumulate": ({"trainer.accumulate_grad_batches": 0}, "trainer.accumulate_grad_batches", "0, expected at least 1"),
    "needs more": (
        {MODEL + "lr_scheduler": {"class_path": STEP_LR}},
        "model.lr_scheduler.step_size",
        "not given, but StepLR needs it; expected a whole number",
    ),
}  # fmt: skip

FIT = ["fit", "--config", "CONFIG"]
ON_THE_COMMAND_LINE = {
    "nothing": ([], "command", "expected fit, validate, test or predict"),
    "misspelt command": (["fitt"], "fitt", "did you mean fit?"),
    "odd command": (["zzz"], "zzz", "there are fit, validate, test or predict"),
    "no command": (["--config", "CONFIG"], "command", "not given"),
    "command alone": (["fit"], "data and model", "--config FILE"),
    "top": ([*FIT, "--modle.inner_steps", "3"], "modle", "did you mean model?"),
    "callback": ([*FIT, "--trainer.callbacks", "EarlyStopping"], "trainer.callbacks.monitor", "EarlyStopping needs it"),
    "beginning of a name": ([*FIT, "--trainer.max_step", "3"], "trainer.max_step", "max_steps?"),
    "model": ([*FIT, "--model.inner_stepss=3"], "model.inner_stepss", "model.inner_steps?"),
    "network": ([*FIT, "--model.network.body.chanels=3"], "model.network.body.chanels", "channels?"),
    "type": ([*FIT, "--data.ways", "3.5"], "data.ways", "found 3.5, expected a whole number$"),
    "deep type": ([*FIT, "--model.network.body.channels", "x"], "model.network.body.channels", "x,"),
    "engine": ([*FIT, "--model.engine.mapping", "maap"], "model.engine.mapping", "vmap or loop"),
    "class": ([*FIT, "--model", "Mamll"], "model", "no class Mamll; did you mean MAML.$"),
    "optimizer": ([*FIT, "--model.optimizer", "Adamm"], "model.optimizer", "did you mean Adam.$"),
    "module": ([*FIT, "--model.optimizer", "torhc.optim.Adam"], "model.optimizer", "there is no class torhc; expected"),
    "no value": ([*FIT, "--model.inner_steps"], "model.inner_steps", "a value must follow$"),
    "no file": (["fit", "--config"], "config", "a value must follow"),
    "stray word": ([*FIT, "extra"], "extra", "neither an option"),
    "unlike any": ([*FIT, "--frobnicate"], "frobnicate", "fit has no such option; see .*--help"),
    "help": (["fit", "--model.help", "Mamll"], "model", "no class Mamll; did you mean MAML"),
    "bare class": (["fit", "--model", "MAML", "--data", "Glyphs"], "model.network", "not given, but MAML needs it"),
}  # fmt: skip


@pytest.mark.parametrize("name", IN_FILES)
@pytest.mark.sample(2)
def test_mistake_in_a_file(name, tmp_path, capsys):
    changes, key, words = IN_FILES[name]
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), changes))
    line = complaint(capsys, lambda: main(["fit", "--config", config]))
    assert line.startswith(f"{key}: ")
    assert re.search(words.replace("?", "[?]"), line), line
    assert len(line) < 300


@pytest.mark.parametrize("name", ON_THE_COMMAND_LINE)
def test_mistake_on_the_command_line(name, tmp_path, capsys):
    args, key, words = ON_THE_COMMAND_LINE[name]
    config = write_yaml(tmp_path / "c.yaml", maml(inner_steps=1))
    line = complaint(capsys, lambda: main([config if arg == "CONFIG" else arg for arg in args]))
    assert line.startswith(f"{key}: ")
    assert re.search(words.replace("?", "[?]"), line), line
    assert config not in line


def test_the_line_of_the_file_is_named(tmp_path, capsys):
    config = write_yaml(tmp_path / "c.yaml", maml(inner_steps="five"))
    number = next(n for n, line in enumerate(Path(config).read_text().splitlines(), 1) if "inner_steps" in line)
    assert complaint(capsys, lambda: main(["fit", "--config", config])).endswith(f"({config}, line {number})")


def test_the_line_of_the_element_of_a_list_is_named(tmp_path, capsys):
    callbacks = [EARLY_STOPPING | {"init_args": {"monitor": monitor}} for monitor in ("val/loss", 3)]
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {"trainer.callbacks": callbacks}))
    number = next(n for n, line in enumerate(Path(config).read_text().splitlines(), 1) if "monitor: 3" in line)
    line = complaint(capsys, lambda: main(["fit", "--config", config]))
    assert line == f"trainer.callbacks.monitor: found 3, expected text ({config}, line {number})"


def test_the_file_is_named_as_it_was_given(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    write_yaml(tmp_path / "configs" / "c.yaml", maml(inner_steps="five"))
    line = complaint(capsys, lambda: main(["fit", "--config", "configs/c.yaml"]))
    assert re.search(r"\(configs/c.yaml, line \d+\)$", line), line


def test_the_last_of_several_files_is_named(tmp_path, capsys):
    first = write_yaml(tmp_path / "first.yaml", maml(inner_steps=2))
    last = write_yaml(tmp_path / "last.yaml", {"model": {"init_args": {"inner_steps": "five"}}})
    line = complaint(capsys, lambda: main(["fit", "--config", first, "--config", last]))
    assert line.endswith(f"({last}, line 3)")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, r"there is no file \S+/c.yaml; did you mean \S+/other.yaml\?"),
        (b"a: [1\nb: }", r"c.yaml, line 2 is not YAML: "),
        (b"model:\n\tx: 1\n", r"c.yaml, line 2 is not YAML: found character '\\t'"),
        (b"model: 1\ndata: 2\nmodel: 3\n", r"c.yaml has model twice, in lines 1 and 3"),
        (b"model:\n  x: 1\n  x: 2\n", r"c.yaml has model.x twice, in lines 2 and 3"),
        (b"- 1\n- 2\n", r"c.yaml holds a sequence, expected settings"),
        (b"", r"c.yaml holds nothing, expected settings"),
        (bytes(range(256)), r"c.yaml is not a text file"),
    ],
)
def test_what_is_no_configuration_file(content, words, tmp_path, capsys):
    write_yaml(tmp_path / "other.yaml", maml())
    if content is not None:
        (tmp_path / "c.yaml").write_bytes(content)
    line = complaint(capsys, lambda: main(["fit", "--config", str(tmp_path / "c.yaml")]))
    assert line.startswith("config: ")
    assert re.search(words, line), line


def test_a_folder_is_no_configuration_file(tmp_path, capsys):
    line = complaint(capsys, lambda: main(["fit", "--config", str(tmp_path)]))
    assert line == f"config: there is no file {tmp_path}"


# found when classes are made, data are read or training begins
LATE = {
    "inner_steps": ({MODEL + "inner_steps": -1}, "model.inner_steps is -1, expected at least 0"),
    "adapted": ({MODEL + "adapted": ["no.*"]}, "model.adapted: the pattern 'no.*' matches none of the network's"),
    "frozen": ({MODEL + "frozen_batch_norm": ["no.*"]}, "model.frozen_batch_norm: the pattern 'no.*' matches none"),
    "inner_lr": ({MODEL + "inner_lr": 0}, "model.inner_lr is 0.0, expected a finite number above 0"),
    "chunk_size": ({MODEL + "engine": {"chunk_size": 0}}, "model.engine.chunk_size is 0, expected at least 1"),
    "image_size": ({BODY + ".init_args.image_size": 8}, "model.network.body.image_size is 8, expected at least 16"),
    "shots": ({DATA + "shots": 0}, "data.shots is 0, expected at least 1"),
    "ways": ({DATA + "ways": 6}, "data.ways is 6, expected at most 5, the classes of the val split"),
    "negative ways": ({DATA + "ways": -2}, "data.ways is -2, expected at least 1 .*, line "),
    "train_ways": ({DATA + "train_ways": 9}, "data.train_ways is 9, expected at most 8"),
    "queries": ({DATA + "queries": 20}, r"data.queries is 20, expected shots \+ queries of at most 20, not 21"),
    "many shots": ({DATA + "shots": 30, DATA + "queries": 30}, "data.shots is 30, expected shots .* of at most 20"),
    "inner_lr inf": ({MODEL + "inner_lr": float("inf")}, "model.inner_lr is inf, expected a finite number above 0"),
    "lr inf": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": float("inf")}}},
        "model.optimizer.lr is inf, expected a finite number",
    ),
    "step_size": (
        {MODEL + "lr_scheduler": {"class_path": STEP_LR, "init_args": {"step_size": 0}}},
        "model.lr_scheduler cannot take a step .integer modulo by zero.; look at its settings",
    ),
    "compile_backend": (
        {MODEL + "engine": {"compile": True, "compile_backend": "inducter"}},
        "model.engine.compile_backend is inducter, expected one of .*inductor",
    ),
    "channels": ({BODY + ".init_args.channels": -3}, "model.network.body.channels is -3, expected at least 1"),
    "in_channels": ({BODY + ".init_args.in_channels": 3}, "model.network.body.in_channels is 3, expected 1,"),
    "other images": (
        {BODY + ".init_args.image_size": 84},
        "model.network.body.image_size is 84, expected the size of the images, which are 28x28",
    ),
    "features": ({NETWORK + ".init_args.features": 0}, "model.network.features is 0, expected at least 1"),
    "early stopping": (
        {"trainer.callbacks": [EARLY_STOPPING | {"init_args": {"monitor": "val/accurcy"}}]},
        "trainer.callbacks.monitor is val/accurcy, expected a metric that validation logs: val/accuracy",
    ),
    "mode of callback": (
        {"trainer.callbacks": [EARLY_STOPPING | {"init_args": {"monitor": "val/loss", "mode": "top"}}]},
        "trainer.callbacks.mode: .*got top",
    ),
    "lr": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": -1.0}}},
        "model.optimizer.lr is -1.0, expected one that the optimiser takes .Invalid learning rate: -1.0. .*, line ",
    ),
    "betas": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": [0.9, 2.0]}}},
        r"model.optimizer.betas is .0.9, 2.0., expected .* takes .Invalid beta parameter at index 1",
    ),
    "two of the optimizer": (
        {MODEL + "optimizer": {"class_path": "torch.optim.Adam", "init_args": {"lr": -0.1, "eps": -1.0}}},
        "model.optimizer: Invalid learning rate: -0.1",
    ),
    "accelerator": ({"trainer.accelerator": "tpuu"}, "trainer.accelerator: .*Available names are"),
    "devices": ({"trainer.devices": "x y"}, "trainer.devices: .*should be an int > 0"),
    "max_time": ({"trainer.max_time": "abc"}, "trainer: .*DD:HH:MM:SS"),
    "max_steps": ({"trainer.max_steps": -5}, "trainer.max_steps: .*You passed in -5"),
    "monitor": ({"checkpoint.monitor": "val/accurcy"}, "checkpoint.monitor is val/accurcy, expected .*val/accuracy"),
    "seed": ({"seed_everything": -4}, "seed_everything: found -4, expected at least 0"),
    "run_dir": ({"run_dir": "FILE/run"}, "run_dir: .*c.yaml/run cannot be written, for .*c.yaml is not a folder"),
    "ckpt_path": ({"ckpt_path": "nowhere.ckpt"}, "ckpt_path is nowhere.ckpt, but there is no checkpoint nowhere.ckpt"),
}  # fmt: skip


@pytest.mark.parametrize("name", LATE)
@pytest.mark.sample(2)
def test_mistake_found_late(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes, words = LATE[name]
    config = tmp_path / "c.yaml"
    write_yaml(config, changed(maml(), {"run_dir": str(tmp_path / "run")} | changes))
    config.write_text(config.read_text().replace("FILE", str(config)))
    line = complaint(capsys, lambda: main(["fit", "--config", str(config)]))
    assert re.match(f".*{words}", line), line


def test_read_only_run_folder(tmp_path, capsys):
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed").chmod(0o555)
    config = write_yaml(tmp_path / "c.yaml", maml())
    line = complaint(capsys, lambda: main(["fit", "--config", config, "--run_dir", str(tmp_path / "fixed" / "run")]))
    assert line == (
        f"run_dir: {tmp_path}/fixed/run cannot be written, for {tmp_path}/fixed is read-only; name another --run_dir"
    )


def hold(run, is_claimed):
    file = claim(run)
    is_claimed.set()
    time.sleep(300)
    file.close()


@contextmanager
def claimed(run):
    """Another process that has a run folder."""
    fork = multiprocessing.get_context("fork")  # of this process: importing everything again takes seconds
    is_claimed = fork.Event()
    holder = fork.Process(target=hold, args=(run, is_claimed))
    holder.start()
    try:
        assert is_claimed.wait(60)
        yield holder
    finally:
        holder.kill()
        holder.join()


@pytest.mark.slow
def test_two_trainings_in_one_run_folder(tmp_path, capsys):
    run, config = tmp_path / "run", write_yaml(tmp_path / "c.yaml", maml())
    main(["fit", "--config", config, "--run_dir", str(run)])
    metrics = (run / "metrics.csv").read_bytes()
    with claimed(run) as holder:
        line = complaint(capsys, lambda: main(["fit", "--config", config, "--run_dir", str(run)]))
        assert line == (
            f"run_dir: process {holder.pid} on {socket.gethostname()} is training in {run}; wait for its end, or name "
            "another --run_dir"
        )
        assert (run / "metrics.csv").read_bytes() == metrics
    main(["fit", "--config", config, "--run_dir", str(run)])  # the claim has ended with the process


def test_a_job_that_is_queued_again_is_not_in_its_own_way(tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with claimed(tmp_path):
        assert claim(tmp_path) is None
        monkeypatch.setenv("SLURM_JOB_ID", "71")
        with pytest.raises(ValueError, match=r"process \d+ of job 7 on .* is training in"):
            claim(tmp_path)


@pytest.fixture
def omniglot(tmp_path):
    """The command that trains on a miniature of Omniglot."""
    splits = write_omniglot(tmp_path / "data")
    settings = changed(maml(), {"data": {"class_path": "Omniglot", "init_args": {"splits": str(splits)}}})
    config = write_yaml(tmp_path / "c.yaml", settings)
    return [
        "fit",
        "--config",
        config,
        "--run_dir",
        str(tmp_path / "run"),
        "--data.root",
        str(tmp_path / "data"),
    ]


def test_corrupt_archive(omniglot, tmp_path, capsys):
    (tmp_path / "data" / "images_background.zip").write_bytes(b"PK, but no archive")
    line = complaint(capsys, lambda: main(omniglot))
    assert "images_background.zip is not a sound zip archive" in line


def test_corrupt_image(omniglot, tmp_path, capsys):
    archive = tmp_path / "data" / "images_evaluation.zip"
    with zipfile.ZipFile(archive) as file:
        contents = {name: file.read(name) for name in file.namelist()}
    broken = sorted(contents)[3]
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in contents.items():
            file.writestr(name, content[:60] if name == broken else content)
    line = complaint(capsys, lambda: main(omniglot))
    assert broken.partition("/")[2] in line
    assert "not a readable image" in line


def test_missing_data_without_network(omniglot, tmp_path, capsys, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    (tmp_path / "data" / "images_background.zip").unlink()
    line = complaint(capsys, lambda: main(omniglot))
    assert "images_background.zip, which could not be fetched from" in line
    assert "on a machine with a network, as " in line


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run folder of MAML after two steps."""
    folder = tmp_path_factory.mktemp("trained")
    main(["fit", "--config", write_yaml(folder / "c.yaml", maml()), "--run_dir", str(folder / "run")])
    return folder / "run"


@pytest.mark.parametrize(
    ("settings", "content", "words"),
    [
        (maml(), b"no checkpoint", r"is not a checkpoint of metalit, or is damaged"),
        (maml(), "torn", r"is not a checkpoint of metalit, or is damaged"),
        (maml(), "no state", r"is not a checkpoint of metalit, or is damaged"),
        (changed(maml(), {BODY + ".init_args.channels": 6}), "whole", r"does not fit .* is \[4\], but \[6\] here"),
        (protonet(), "whole", r"a checkpoint of MAML, but the model is PrototypicalNetwork: give the configuration"),
    ],
)  # fmt: skip
def test_unfit_checkpoint(settings, content, words, trained, tmp_path, capsys):
    path, whole = tmp_path / "x.ckpt", (trained / "checkpoints" / "last.ckpt").read_bytes()
    if content == "no state":
        torch.save({"weights": torch.zeros(1)}, path)
    else:
        path.write_bytes({"torn": whole[: len(whole) // 2], "whole": whole}.get(content, content))
    config = write_yaml(tmp_path / "c.yaml", settings)
    args = ["--config", config, "--run_dir", str(tmp_path / "run"), "--ckpt_path", str(path)]
    for command in ("fit", "test"):
        line = complaint(capsys, lambda command=command: main([command, *args]))
        assert line.startswith(f"ckpt_path is {path}, which ")
        assert re.search(words, line), line


def test_best_of_a_folder_without_one(tmp_path, capsys):
    config = write_yaml(tmp_path / "c.yaml", maml())
    args = ["test", "--config", config, "--run_dir", str(tmp_path / "run"), "--ckpt_path", "best"]
    line = complaint(capsys, lambda: main(args))
    assert line.startswith(f"ckpt_path is best, but there is no checkpoint {tmp_path}/run/checkpoints/best.ckpt")


def test_a_bug_shows_its_traceback(tmp_path, monkeypatch):
    def trajectory(*args, **kwargs):
        raise RuntimeError("a bug")

    monkeypatch.setattr(MAML, "trajectory", trajectory)
    config = write_yaml(tmp_path / "c.yaml", maml())
    with pytest.raises(RuntimeError, match="a bug"):
        main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])


@pytest.mark.parametrize("error", ["TypeError", "RuntimeError", "AssertionError"])
def test_a_bug_in_a_network_of_the_user_shows_its_traceback(error, tmp_path, monkeypatch):
    code = f"from torch import nn\n\nclass Net(nn.Module):\n    def __init__(self):\n        raise {error}('my bug')\n"
    (tmp_path / f"broken_{error}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: {"class_path": f"broken_{error}.Net"}}))
    with pytest.raises(eval(error), match="my bug"):
        main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.head = {layer}, nn.Linear(8, 5)

    def forward(self, x):
        return self.head({hidden})
"""
# a layer, what the head reads of it, and what the engine says
REFUSED_NETWORKS = {
    "lstm": (
        "nn.LSTM(28, 8, batch_first=True)",
        "self.layer(x[:, 0])[0][:, -1]",
        "model.engine.mapping is vmap, expected loop: torch cannot vectorise",
    ),
    "spectral": (
        "nn.utils.parametrizations.spectral_norm(nn.Linear(784, 8))",
        "self.layer(x.flatten(1))",
        "the network writes into its buffer network.layer.*Let a callback write it",
    ),
    "local": (
        "nn.CrossMapLRN2d(2)",
        "self.layer(x).flatten(1)[:, 400:408]",
        "model.engine.mapping is vmap, expected loop: torch cannot vectorise .*setup_context",
    ),
}


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("name", REFUSED_NETWORKS)
def test_a_network_that_the_engine_refuses(name, tmp_path, capsys, monkeypatch):
    layer, hidden, words = REFUSED_NETWORKS[name]
    (tmp_path / f"refused_{name}.py").write_text(NET.format(layer=layer, hidden=hidden))
    monkeypatch.syspath_prepend(tmp_path)
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: {"class_path": f"refused_{name}.Net"}}))
    line = complaint(capsys, lambda: main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")]))
    assert re.search(words, line), line


def test_errors_of_others_say_how_to_see_where(tmp_path, capsys, monkeypatch):
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {"trainer.max_time": "abc"}))
    args = ["fit", "--config", config, "--run_dir", str(tmp_path / "run")]
    assert complaint(capsys, lambda: main(args)).endswith("(METALIT_DEBUG=1 shows where)")
    monkeypatch.setenv("METALIT_DEBUG", "1")
    with pytest.raises(Exception, match="DD:HH:MM:SS") as caught:
        main(args)
    assert type(caught.value).__name__ == "MisconfigurationException"
