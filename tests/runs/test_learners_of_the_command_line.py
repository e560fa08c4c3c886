"""A learner that the command line makes holds nothing of it: it can be copied, and callbacks copy it."""

import copy
import pickle

import pytest
import torch

from commands import changed, complaint, maml, protonet, write_yaml
from metalit.algorithms import MAML
from metalit.cli import MetalitCLI
from metalit.main import main

SWA = {"class_path": "StochasticWeightAveraging", "init_args": {"swa_lrs": 0.01, "swa_epoch_start": 1}}
EMA = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.9}}
HALVING = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 1}}
PLATEAU = {"class_path": "ReduceLROnPlateau", "init_args": {"patience": 0, "threshold": 0.99}}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a command, and returns the command line's objects."""
    made = []
    init = MetalitCLI.instantiate_classes

    def note(cli):
        init(cli)
        made.append(cli)

    monkeypatch.setattr(MetalitCLI, "instantiate_classes", note)

    def command(name, settings, *args, folder="run"):
        config = write_yaml(tmp_path / "c.yaml", changed(settings, {"trainer.logger": False}))
        main([name, "--config", config, "--run_dir", str(tmp_path / folder), *args])
        return made[-1]

    return command


@pytest.mark.parametrize("mapping", ["vmap", "loop"])
@pytest.mark.parametrize("way", [copy.deepcopy, lambda learner: pickle.loads(pickle.dumps(learner))])
def test_learner_can_be_copied_after_training(way, mapping, run):
    learner = run("fit", maml(lr_scheduler=HALVING, engine={"mapping": mapping})).model
    learner._compiled[learner.engine] = lambda: None  # a compiled function cannot be pickled, no more than this one
    again = way(learner)
    assert not again._compiled
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in learner.state_dict().items())
    made = again.configure_optimizers()
    assert made["optimizer"].defaults == learner.configure_optimizers()["optimizer"].defaults
    assert made["lr_scheduler"]["scheduler"].step_size == 1


@pytest.mark.filterwarnings("ignore")  # of Lightning's: a device that is not in config.yaml; averages in a test
@pytest.mark.parametrize("callback", [SWA, EMA], ids=["swa", "ema"])
@pytest.mark.slow
def test_weights_are_averaged_from_the_command_line(callback, run, tmp_path):
    settings = changed(maml(), {"trainer.callbacks": [callback], "trainer.max_steps": None, "trainer.max_epochs": 3})
    learner = run("fit", settings).model
    last = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    trained = run("fit", changed(settings, {"trainer.callbacks": None}), folder="plain").model.state_dict()
    name = "network.head.weight"
    assert torch.equal(last[name], learner.state_dict()[name])
    assert not torch.equal(last[name], trained[name])
    run("test", settings, "--ckpt_path", "last")


@pytest.mark.parametrize("method", [maml, protonet])
def test_rate_is_reduced_on_a_plateau_from_the_command_line(method, run):
    changes = {"trainer.max_steps": None, "trainer.max_epochs": 3}
    trainer = run("fit", changed(method(lr_scheduler=PLATEAU), changes)).trainer
    assert trainer.optimizers[0].param_groups[0]["lr"] < 0.9e-3


def test_plateau_in_what_is_not_measured_is_refused(run, capsys):
    settings = maml(lr_scheduler=changed(PLATEAU, {"init_args.monitor": "val/acc"}))
    line = complaint(capsys, lambda: run("fit", settings))
    assert line.startswith(
        "model.lr_scheduler.monitor is val/acc, expected a metric that validation logs: val/accuracy, val/loss"
    )
    settings = maml(lr_scheduler=PLATEAU, lr_scheduler_interval="step")
    assert "model.lr_scheduler_interval is step, expected epoch" in complaint(capsys, lambda: run("fit", settings))


def test_checkpoint_of_another_method_is_refused(run, tmp_path, capsys):
    run("fit", maml())
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    other = changed(maml(), {"model.class_path": "metalit.algorithms.FOMAML"})
    expected = (
        f"ckpt_path is {last}, which is a checkpoint of MAML, but the model is FOMAML: give the configuration it was "
        "trained with, or start FOMAML from its network with --model.pretrained"
    )
    for command in ("fit", "validate", "test", "predict"):
        line = complaint(capsys, lambda name=command: run(name, other, "--ckpt_path", "last"))
        assert line.startswith(expected)
    run("fit", other, "--model.pretrained", str(last), folder="other")


def test_checkpoint_that_does_not_name_its_method_is_taken(run, tmp_path):
    run("fit", maml())
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    checkpoint = torch.load(last, weights_only=True)
    for name in ("algorithm", "settings", "stopped", "metrics"):
        del checkpoint[name]
    torch.save(checkpoint, last)
    run("test", maml(), "--ckpt_path", "last")
    assert run("fit", maml(), "--ckpt_path", "last", "--trainer.max_steps", "4").trainer.global_step == 4


def test_overfitting_a_batch_repeats_its_episodes(run, monkeypatch):
    seen = []
    settings = changed(maml(), {"trainer.max_steps": None, "trainer.max_epochs": 3, "trainer.overfit_batches": 1})
    training_step = MAML.training_step

    def noting(self, episode, batch_idx):
        seen.append(episode.support.x.double().sum().item())
        return training_step(self, episode, batch_idx)

    monkeypatch.setattr(MAML, "training_step", noting)
    run("fit", settings)
    assert len(seen) == 3
    assert len(set(seen)) == 1
