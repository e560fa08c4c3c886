"""A learner and its data from a run folder alone."""

import csv
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import metalit
from commands import changed, maml, protonet, write_yaml
from metalit import MAML, Labelled, PrototypicalNetwork
from metalit.data import Glyphs
from metalit.main import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tested run with three ways."""
    folder = tmp_path_factory.mktemp("loading") / "run"
    folder.mkdir()
    config = write_yaml(folder.parent / "c.yaml", changed(protonet(), {"data.init_args.ways": 3}))
    main(["fit", "--config", config, "--run_dir", str(folder)])
    main(["test", "--config", config, "--run_dir", str(folder), "--ckpt_path", "best"])
    return folder


def state(run, name):
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_it_predicts_what_the_test_did(run):
    learner, data = metalit.load(run)
    assert isinstance(learner, PrototypicalNetwork)
    assert isinstance(data, Glyphs)
    assert not learner.training
    assert (data.ways, data.queries) == (3, 2)
    episode = data.episodes("test", 0, 4)
    accuracies = []
    for task in range(4):
        predict = learner.adapt(Labelled(episode.support.x[task], episode.support.y[task]))
        right = predict(episode.query.x[task]).argmax(-1) == episode.query.y[task]
        accuracies.append(right.float().mean().item())
    with (run / "episodes.csv").open() as file:
        assert accuracies == pytest.approx([float(row["accuracy"]) for row in csv.DictReader(file)])


@pytest.mark.parametrize("which", ["best", "last", "path"])
def test_which(which, run, tmp_path):
    name = "last" if which == "path" else which
    if which == "path":
        which = shutil.copy(run / "checkpoints" / "last.ckpt", tmp_path / "mine.ckpt")
    loaded = metalit.load(str(run), which).learner.state_dict()
    assert loaded.keys() == state(run, name).keys()
    assert all(torch.equal(value, state(run, name)[key]) for key, value in loaded.items())


def drawn_by_numpy():
    return np.random.get_state()[1].tolist()  # noqa: NPY002


def test_nothing_global_is_touched(run):
    torch.manual_seed(3)
    before = torch.get_rng_state(), random.getstate(), drawn_by_numpy(), list(sys.path)
    settings = torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()
    metalit.load(run)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (random.getstate(), drawn_by_numpy(), sys.path) == before[1:]
    assert (torch.get_default_dtype(), torch.get_num_threads(), Path.cwd()) == settings


def test_ways_of_the_network_follow_the_datas(tmp_path):
    config = write_yaml(tmp_path / "c.yaml", maml())
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run"), "--data.ways", "3"])
    learner, data = metalit.load(tmp_path / "run", "last")
    assert isinstance(learner, MAML)
    assert learner.network.head.out_features == data.ways == 3


def test_what_training_started_from_need_not_be_there_any_more(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["pretrained"] = "gone.ckpt"
    write_yaml(tmp_path / "run" / "config.yaml", config)
    assert metalit.load(tmp_path / "run").learner.pretrained is None


def test_mistakes(run, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"run_dir is .*nowhere, which does not exist; give the folder of a run"
    ):
        metalit.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="which is a file; give the folder"):
        metalit.load(run / "config.yaml")
    with pytest.raises(FileNotFoundError, match=r"has no config.yaml, which fit writes"):
        metalit.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"which is first, but .* there are .*best.ckpt, .*last.ckpt"):
        metalit.load(run, "first")
    (tmp_path / "config.yaml").write_text("trainer: 1")
    with pytest.raises(ValueError, match=r"config.yaml does not hold the settings of a run"):
        metalit.load(tmp_path)
    shutil.copy(run / "config.yaml", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"which is best, but .* there is none in .*checkpoints"):
        metalit.load(tmp_path)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["model"]["init_args"]["network"]["init_args"]["channels"] = 6
    write_yaml(tmp_path / "config.yaml", config)
    with pytest.raises(ValueError, match=r"which does not fit the model .* is \[4\], but \[6\] here"):
        metalit.load(tmp_path, run / "checkpoints" / "best.ckpt")


@pytest.mark.slow
def test_modules_of_the_users_own(run, tmp_path):
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["class_path"] = "own_data.Mine"
    shutil.copytree(run / "checkpoints", tmp_path / "run" / "checkpoints")
    write_yaml(tmp_path / "run" / "config.yaml", config)
    words = r"config.yaml: data: there is no class own_data.*; put the folder of your own modules on sys.path"
    with pytest.raises(ValueError, match=words):
        metalit.load(tmp_path / "run")
    (tmp_path / "own_data.py").write_text("from metalit.data import Glyphs\nclass Mine(Glyphs):\n    pass\n")
    code = "import metalit; print(type(metalit.load('run').data).__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "Mine\n"


def test_lightnings_own_way_points_here(run):
    with pytest.raises(TypeError, match=r"metalit.load\(run_folder\)"):
        PrototypicalNetwork.load_from_checkpoint(run / "checkpoints" / "best.ckpt")
    network = metalit.load(run).learner.network
    learner = PrototypicalNetwork.load_from_checkpoint(run / "checkpoints" / "best.ckpt", network=network)
    assert isinstance(learner, PrototypicalNetwork)
