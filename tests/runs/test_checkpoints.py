"""A training leaves ``best`` and ``last``, and goes on from ``last`` as if it had never stopped."""

import shutil
from pathlib import Path

import lightning as L
import pytest
import torch

from cases import DOMAINS
from commands import changed, maml, protonet, write_yaml
from metalit.algorithms import MAML
from metalit.cli import MetalitCLI, main
from metalit.runs.checkpoints import RunCheckpoint, check_checkpoint, keep_old, resolve_checkpoint

HALVING = {
    "lr_scheduler": {
        "class_path": "torch.optim.lr_scheduler.StepLR",
        "init_args": {"step_size": 1, "gamma": 0.5},
    }
}
EVERY_SECOND_EPOCH = {"trainer.check_val_every_n_epoch": 2}
NO_VALIDATION = {"trainer.limit_val_batches": 0}
WITHIN_EPOCH = {"trainer.val_check_interval": 2}


class Witness(L.Callback):
    """Notes the episodes trained on, the rates, and the steps at which validation ran."""

    def __init__(self):
        self.steps, self.validations = [], []

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        self.steps.append((trainer.global_step, trainer.current_epoch, rate, batch.support.x.sum().item()))

    def on_validation_end(self, trainer, learner):
        if not trainer.sanity_checking:
            self.validations.append(trainer.global_step)


@pytest.fixture
def fit(tmp_path, monkeypatch):
    """A function that trains in a run folder to a step, and returns the witness."""
    instantiate = MetalitCLI.instantiate_trainer

    def run(settings, folder, max_steps, *args):
        witness = Witness()

        def with_witness(cli, **kwargs):
            trainer = instantiate(cli, **kwargs)
            trainer.callbacks.insert(0, witness)
            return trainer

        monkeypatch.setattr(MetalitCLI, "instantiate_trainer", with_witness)
        config = write_yaml(tmp_path / "c.yaml", changed(settings, {"trainer.logger": False}))
        folder = str(tmp_path / folder)
        main(["fit", "--config", config, "--run_dir", folder, "--trainer.max_steps", str(max_steps), *args])
        return witness

    return run


def load(folder, keyword="last"):
    return torch.load(folder / "checkpoints" / f"{keyword}.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("settings", "stop"),
    [
        (maml(**HALVING), 3),  # in the midst of an epoch of 4 steps
        (maml(**HALVING), 4),  # at its end
        (protonet(**HALVING), 2),
        (protonet(**HALVING), 4),
        (changed(maml(**HALVING), WITHIN_EPOCH), 3),
        (changed(maml(**HALVING), WITHIN_EPOCH), 2),
        (changed(maml(**HALVING), EVERY_SECOND_EPOCH), 4),
        (changed(maml(**HALVING), NO_VALIDATION), 3),
        (changed(protonet(**HALVING), {"data.init_args.num_workers": 1}), 3),
    ],
    ids=[
        "maml-mid",
        "maml-end",
        "protonet-mid",
        "protonet-end",
        "val-within",
        "val-then",
        "val-rare",
        "no-val",
        "worker",
    ],
)
def test_resumed_training_is_the_uninterrupted_one(settings, stop, fit, tmp_path):
    whole = fit(settings, "whole", 6)
    first = fit(settings, "parts", stop)
    second = fit(settings, "parts", 6, "--ckpt_path", "last")
    assert [step for step, *_ in whole.steps] == [1, 2, 3, 4, 5, 6]
    assert first.steps + second.steps == whole.steps
    assert set(whole.validations) <= set(first.validations) | set(second.validations)
    expected, found = load(tmp_path / "whole"), load(tmp_path / "parts")
    assert found["global_step"] == expected["global_step"] == 6
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    assert all(
        torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items()
    )


@pytest.mark.parametrize(
    ("settings", "validated"),
    [(maml(), [3]), (changed(maml(), EVERY_SECOND_EPOCH), []), (changed(maml(), NO_VALIDATION), [])],
    ids=["val", "rare", "none"],
)
def test_training_that_stops_within_an_epoch_leaves_best_and_last(settings, validated, fit, tmp_path):
    witness = fit(settings, "run", 3)
    assert witness.validations == validated
    assert load(tmp_path / "run", "last")["global_step"] == 3
    assert load(tmp_path / "run", "best")["global_step"] == 3


def test_last_is_kept_up_when_nothing_improves(fit, tmp_path):
    # a rate of 0 leaves the monitored value as it is, so the first validation stays the best
    settings = maml(optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}})
    fit(settings, "run", 8)
    assert load(tmp_path / "run", "best")["global_step"] == 4
    assert load(tmp_path / "run", "last")["global_step"] == 8


def test_training_out_of_time_leaves_best_and_last(fit, tmp_path):
    settings = changed(
        maml(), {"trainer.max_time": "00:00:00:01", "data.init_args.episodes_per_epoch": 100_000}
    )
    witness = fit(settings, "run", -1)
    last = witness.steps[-1][0]
    assert witness.validations == [last]
    assert (
        load(tmp_path / "run", "last")["global_step"] == load(tmp_path / "run", "best")["global_step"] == last
    )


def test_best_is_what_validation_says(fit, tmp_path):
    settings = changed(maml(), {"checkpoint.monitor": "val/accuracy", "checkpoint.mode": "max"})
    fit(settings, "run", 12)
    state = next(iter(load(tmp_path / "run")["callbacks"].values()))
    assert state["monitor"] == "val/accuracy"
    assert state["best_model_path"] == str(tmp_path / "run" / "checkpoints" / "best.ckpt")
    assert state["best_model_score"] >= state["current_score"]


def test_files_of_an_earlier_training_get_a_number(fit, tmp_path):
    fit(maml(), "run", 2)
    fit(maml(), "run", 3)
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert names == ["best-1.ckpt", "best.ckpt", "last-1.ckpt", "last.ckpt"]
    assert load(tmp_path / "run", "last-1")["global_step"] == 2
    assert load(tmp_path / "run", "last")["global_step"] == 3


def test_resuming_in_the_same_folder_replaces_and_in_another_leaves_the_first_alone(fit, tmp_path):
    fit(maml(), "first", 2)
    fit(maml(), "first", 3, "--ckpt_path", "last")
    folder = tmp_path / "first" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt"]
    fit(maml(), "second", 5, "--ckpt_path", str(folder / "last.ckpt"))
    assert load(tmp_path / "first")["global_step"] == 3
    assert load(tmp_path / "second")["global_step"] == 5


def test_last_that_does_not_exist_means_from_the_beginning(fit, tmp_path):
    assert [step for step, *_ in fit(maml(), "run", 2, "--ckpt_path", "last").steps] == [1, 2]


def test_quick_check_leaves_nothing(fit, tmp_path):
    fit(maml(), "run", 2, "--trainer.fast_dev_run", "true")
    assert not (tmp_path / "run").exists()


def test_training_without_checkpoints(fit, tmp_path):
    assert len(fit(maml(), "run", 2, "--trainer.enable_checkpointing", "false").steps) == 2
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_resolve_checkpoint(tmp_path):
    best = tmp_path / "checkpoints" / "best.ckpt"
    best.parent.mkdir()
    best.touch()
    assert resolve_checkpoint(None, tmp_path, fitting=False) is None
    assert resolve_checkpoint("best", tmp_path, fitting=False) == str(best)
    assert resolve_checkpoint(str(best), Path("elsewhere"), fitting=True) == str(best)
    assert resolve_checkpoint("last", tmp_path, fitting=True) is None
    for asked, fitting in (("last", False), ("nowhere.ckpt", True)):
        with pytest.raises(FileNotFoundError, match=f"ckpt_path is {asked}"):
            resolve_checkpoint(asked, tmp_path, fitting=fitting)


def test_check_checkpoint_accepts_its_own_model(tmp_path):
    model = torch.nn.Linear(2, 3)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "x.ckpt")
    check_checkpoint(str(tmp_path / "x.ckpt"), model)
    with pytest.raises(ValueError, match=r"weight is \[3, 2\], but \[4, 2\] here"):
        check_checkpoint(str(tmp_path / "x.ckpt"), torch.nn.Linear(2, 4))


def test_keep_old_counts_on(tmp_path):
    for content in "abc":
        keep_old(tmp_path / "x.csv")
        (tmp_path / "x.csv").write_text(content)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.csv": "c",
        "x-1.csv": "a",
        "x-2.csv": "b",
    }


def test_without_the_command_line(tmp_path):
    domain = DOMAINS["glyphs"]
    learner = MAML(domain.networks["predictor"]())
    trainer = L.Trainer(
        default_root_dir=tmp_path, callbacks=[RunCheckpoint()], max_steps=2, logger=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False, inference_mode=False,
    )  # fmt: skip
    trainer.fit(learner, datamodule=domain.data())
    assert load(tmp_path)["global_step"] == 2
    shutil.rmtree(tmp_path / "checkpoints")
