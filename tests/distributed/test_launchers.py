"""Two processes started by Lightning or by torchrun are one run, with one folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import metalit
from commands import protonet, write_yaml
from metalit.main import main
from metalit.runs import common_new_folder
from two_ranks import free_port

METALIT = ["-m", "metalit"]
SGD = {"class_path": "torch.optim.SGD", "init_args": {"lr": 0.01}}
TWO = ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--data.tasks_per_batch", "1"]


@pytest.fixture
def config(tmp_path):
    return write_yaml(tmp_path / "c.yaml", protonet(optimizer=SGD))


@pytest.fixture
def fit(tmp_path, config):
    """A function that trains in two processes of their own, and returns the run's folder."""
    source = str(Path(metalit.__file__).parents[1])
    environment = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"}

    def run(name, *launcher):
        here = tmp_path / name
        here.mkdir()
        command = [sys.executable, *launcher, "fit", "--config", config, "--trainer.accelerator", "cpu", *TWO]
        settings = {"capture_output": True, "text": True, "timeout": 200, "check": False}
        done = subprocess.run(command, cwd=here, env=environment, **settings)
        assert done.returncode == 0, done.stderr[-3000:]
        (folder,) = here.glob("runs/*/*")
        return folder

    return run


def weights(folder):
    return torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.slow
def test_lightning_and_torchrun_start_the_same_run(fit, config, tmp_path):
    by_lightning = fit("lightning", *METALIT)
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    by_torchrun = fit("torchrun", *torchrun, *METALIT)
    files = {str(path.relative_to(by_torchrun)) for path in by_torchrun.rglob("*.*")}
    assert {"config.yaml", "metrics.csv", "checkpoints/last.ckpt"} <= files
    assert "metrics-1.csv" not in files

    alone = tmp_path / "alone"
    main(["fit", "--config", config, "--run_dir", str(alone), "--trainer.accelerator", "cpu"])
    one, other = weights(by_lightning), weights(by_torchrun)
    for name, value in weights(alone).items():
        assert torch.equal(one[name], other[name]), name
        torch.testing.assert_close(one[name], value, rtol=1e-4, atol=1e-5)


@pytest.fixture
def environment(monkeypatch):
    """A function that sets variables, none of a launcher's being set."""
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "METALIT_RUN_DIR")) or name in ("LOCAL_RANK", "RANK"):
            monkeypatch.delenv(name)

    def change(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return change


def test_a_new_run_has_a_new_folder(tmp_path, environment):
    environment(METALIT_RUN_DIR="")  # so that what is set below is taken back
    first = common_new_folder(tmp_path)
    first.mkdir()
    assert common_new_folder(tmp_path) not in (first, None)


def test_a_slurm_job_finds_its_folder_again(tmp_path, environment):
    environment(SLURM_JOB_ID="17", SLURM_STEP_ID="0", SLURM_JOB_NAME="fit")
    folder = common_new_folder(tmp_path)
    assert folder == tmp_path / "slurm-17.0"
    folder.mkdir()
    assert common_new_folder(tmp_path) == folder


def test_processes_that_cannot_agree_are_told_to_name_a_folder(tmp_path, environment):
    environment(TORCHELASTIC_RUN_ID="x", TORCHELASTIC_USE_AGENT_STORE="False")
    with pytest.raises(ValueError, match="give --run_dir"):
        common_new_folder(tmp_path)
