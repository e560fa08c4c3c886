"""A training leaves ``best`` and ``last``, and goes on from ``last`` as if it had never stopped."""

import os
import random
import re
import shutil
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from lightning import Trainer

from cases import DOMAINS
from commands import changed, complaint, maml, protonet, write_yaml
from metalit.algorithms import MAML
from metalit.cli import MetalitCLI, command_line
from metalit.main import main
from metalit.runs import RunCheckpoint, check_checkpoint, resolve_checkpoint
from metalit.runs.checkpoint_files import AtomicCheckpointIO, is_intact

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


def assert_same_state(expected, found):
    assert found["global_step"] == expected["global_step"]
    assert found["state_dict"].keys() == expected["state_dict"].keys()
    assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())


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
@pytest.mark.sample(3)
def test_resumed_training_is_the_uninterrupted_one(settings, stop, fit, tmp_path):
    whole = fit(settings, "whole", 6)
    first = fit(settings, "parts", stop)
    second = fit(settings, "parts", 6, "--ckpt_path", "last")
    assert [step for step, *_ in whole.steps] == [1, 2, 3, 4, 5, 6]
    assert first.steps + second.steps == whole.steps
    assert set(whole.validations) <= set(first.validations) | set(second.validations)
    expected, found = load(tmp_path / "whole"), load(tmp_path / "parts")
    assert found["global_step"] == 6
    assert_same_state(expected, found)


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
    settings = changed(maml(), {"trainer.max_time": "00:00:00:01", "data.init_args.episodes_per_epoch": 100_000})
    witness = fit(settings, "run", -1)
    last = witness.steps[-1][0]
    assert witness.validations == [last]
    assert load(tmp_path / "run", "last")["global_step"] == load(tmp_path / "run", "best")["global_step"] == last


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
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    kept = {"best-1.ckpt", "last-1.ckpt", "previous-1.ckpt"}
    assert names == kept | {"best.ckpt", "last.ckpt", "previous.ckpt"}
    assert load(tmp_path / "run", "last-1")["global_step"] == 2
    assert load(tmp_path / "run", "last")["global_step"] == 3


def test_resuming_in_the_same_folder_replaces_and_in_another_leaves_the_first_alone(fit, tmp_path):
    fit(maml(), "first", 2)
    fit(maml(), "first", 3, "--ckpt_path", "last")
    folder = tmp_path / "first" / "checkpoints"
    assert sorted(path.name for path in folder.iterdir()) == ["best.ckpt", "last.ckpt", "previous.ckpt"]
    fit(maml(), "second", 5, "--ckpt_path", str(folder / "last.ckpt"))
    assert load(tmp_path / "first")["global_step"] == 3
    assert load(tmp_path / "second")["global_step"] == 5


def test_last_that_does_not_exist_means_from_the_beginning(fit, tmp_path):
    assert [step for step, *_ in fit(maml(), "run", 2, "--ckpt_path", "last").steps] == [1, 2]


@pytest.mark.parametrize("every", [{"every_n_steps": 2}, {"every_n_minutes": 1e-9}], ids=["steps", "minutes"])
def test_last_is_saved_every_so_often(every, fit, tmp_path, monkeypatch):
    saved = []
    save = Trainer.save_checkpoint

    def noting(trainer, path, *args, **options):
        saved.append((Path(path).stem, trainer.global_step))
        save(trainer, path, *args, **options)

    monkeypatch.setattr(Trainer, "save_checkpoint", noting)
    settings = changed(maml(), {"checkpoint": every, "data.init_args.episodes_per_epoch": 100})
    fit(settings, "run", 5)
    expected = [2, 4] if "every_n_steps" in every else [1, 2, 3, 4]
    assert [step for name, step in saved if name == "last" and step < 5] == expected


def test_last_is_never_saved_amidst_accumulated_gradients(fit, tmp_path):
    settings = changed(maml(), {"checkpoint.every_n_minutes": 1e-9, "trainer.accumulate_grad_batches": 2})
    whole = fit(changed(settings, {"checkpoint.every_n_minutes": 1000}), "whole", 4)
    assert whole.steps[-1][0] == 4

    class KilledError(Exception):
        pass

    killed = []

    class Kill(L.Callback):
        def on_train_batch_start(self, trainer, learner, batch, batch_idx):
            if trainer.global_step == 1 and batch_idx % 2:  # after the first of the two batches of step 2
                killed.append(batch_idx)
                raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(command_line.OWN_CALLBACKS, "fit", (Kill,))
        with pytest.raises(KilledError):
            fit(settings, "parts", 4)
    assert killed
    fit(settings, "parts", 4, "--ckpt_path", "last")
    assert_same_state(load(tmp_path / "whole"), load(tmp_path / "parts"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A training of 5 steps, one of 3, and the command that goes on with the second."""
    folder = tmp_path_factory.mktemp("trained")
    changes = {"checkpoint.every_n_steps": 1, "data.init_args.episodes_per_epoch": 100, "trainer.logger": False}
    command = ["fit", "--config", write_yaml(folder / "c.yaml", changed(maml(), changes))]
    for name, steps in (("whole", 5), ("run", 3)):
        main([*command, "--run_dir", str(folder / name), f"--trainer.max_steps={steps}"])
    return folder, [*command, "--trainer.max_steps=5", "--ckpt_path", "last"]


@pytest.mark.parametrize("damage", ["torn", "flipped", "gone"])
def test_a_damaged_last_is_replaced_by_the_one_before_it(damage, trained, tmp_path):
    folder, go_on = trained
    shutil.copytree(folder / "run", tmp_path / "run")
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    if damage == "gone":
        last.unlink()
    elif damage == "torn":
        last.write_bytes(content[: len(content) // 2])
    else:
        weights = max(load(tmp_path / "run")["state_dict"].values(), key=torch.numel)
        content[content.index(weights.numpy().tobytes())] ^= 1  # between the records are bytes that nobody checks
        last.write_bytes(content)
    assert not is_intact(last)
    with pytest.warns(UserWarning, match=r"last.ckpt is (damaged|missing): going on from \S+previous.ckpt"):
        main([*go_on, "--run_dir", str(tmp_path / "run")])
    assert_same_state(load(folder / "whole"), load(tmp_path / "run"))


def test_a_torn_last_does_not_replace_the_good_one_before_it(tmp_path):
    path, files = tmp_path / "last.ckpt", AtomicCheckpointIO()
    for value in (1, 2):
        files.save_checkpoint({"value": value}, path)
    path.write_bytes(path.read_bytes()[:100])
    files.save_checkpoint({"value": 3}, path)
    assert torch.load(path)["value"] == 3
    assert torch.load(tmp_path / "previous.ckpt")["value"] == 1


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(tmp_path, monkeypatch):
    path, files = tmp_path / "last.ckpt", AtomicCheckpointIO()
    files.save_checkpoint({"value": 1}, path)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match=r"could not be written \(No space left on device\); \S+last.ckpt is as it was"):
        files.save_checkpoint({"value": 2}, path)
    assert torch.load(path)["value"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_run_folder_that_was_moved_still_knows_its_best(fit, tmp_path):
    # a rate of 0 leaves the monitored value as it is, so the first validation stays the best
    settings = maml(optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 0.0}})
    fit(settings, "run", 4)
    (tmp_path / "run").rename(tmp_path / "moved")
    fit(settings, "moved", 8, "--ckpt_path", "last")
    assert load(tmp_path / "moved", "best")["global_step"] == 4
    assert load(tmp_path / "moved")["global_step"] == 8
    assert not (tmp_path / "run").exists()


def test_an_unsafe_checkpoint_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict(), "more": Evil()}, tmp_path / "x.ckpt")
    with pytest.raises(ValueError, match="could execute anybody's code, so it is refused"):
        check_checkpoint(str(tmp_path / "x.ckpt"), torch.nn.Linear(2, 3))
    assert not (tmp_path / "executed").exists()


class Drawing(L.Callback):
    """Notes what all generators draw after each step."""

    def __init__(self):
        self.drawn = {}

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        numbers = (random.random(), np.random.random(), torch.rand(()).item())  # noqa: NPY002
        self.drawn[trainer.global_step] = numbers


@pytest.mark.parametrize("stop", [3, 4], ids=["within an epoch", "at its end"])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.sample(5)
def test_resumed_training_draws_the_same_random_numbers(stop, workers, fit, monkeypatch):
    drawings = []

    def drawing():
        drawings.append(Drawing())
        return drawings[-1]

    monkeypatch.setitem(command_line.OWN_CALLBACKS, "fit", (command_line.RandomStates, drawing))
    settings = changed(maml(), {"data.init_args.num_workers": workers})
    fit(settings, "whole", 6)
    fit(settings, "parts", stop)
    fit(settings, "parts", 6, "--ckpt_path", "last")
    whole, first, second = (drawing.drawn for drawing in drawings)
    assert len(set(whole.values())) == 6
    assert first | second == whole
    assert set(second) == set(range(stop + 1, 7))


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


def test_a_loss_that_is_not_finite_leaves_the_state_before_it(fit, tmp_path, capsys):
    # the first step makes the weights so large that the second overflows
    settings = maml(optimizer={"class_path": "torch.optim.SGD", "init_args": {"lr": 1e30}})
    fit(changed(settings, {"checkpoint.every_n_steps": 1}), "run", 1)
    last = (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes()
    message = complaint(capsys, lambda: fit(settings, "run", 4, "--ckpt_path", "last"))
    assert re.match(r"the meta-(loss is \w+|gradient is not finite) at step 1 \(training episodes [\d, -]+\)", message)
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").read_bytes() == last
    failed = load(tmp_path / "run", "failed")
    assert failed["global_step"] == 1
    assert_same_state(load(tmp_path / "run"), failed)
