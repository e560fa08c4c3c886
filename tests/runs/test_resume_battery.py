"""Killed after any of its ``last.ckpt``, a run with callbacks and schedules ends as if nothing had happened.

A kill leaves the ``checkpoints`` folder as the last complete write left it. So a copy of the folder is taken after each
write of ``last.ckpt``, and the run is resumed from every copy: this covers every moment of a kill.
"""

import shutil
from functools import partial
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, StochasticWeightAveraging
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from metalit.algorithms.optimizers import ReduceLROnPlateau as LoggedPlateau
from metalit.runs.checkpoint_files import AtomicCheckpointIO
from runs.kill_and_resume import differences
from runs.small_run import end_of

# Lightning's own: what the command line keeps quiet
pytestmark = pytest.mark.filterwarnings("ignore")

HALVING = partial(StepLR, step_size=1, gamma=0.5)
PLATEAU = partial(ReduceLROnPlateau, patience=0, threshold=0.9)  # it halves the rate at nearly each look
IN_TRAINING = partial(LoggedPlateau, monitor="train/loss", patience=0, threshold=0.9)
EARLY = partial(EarlyStopping, min_delta=1e6, patience=1)  # nothing improves so much
EMA = partial(EMAWeightAveraging, decay=0.9)
BY_EPOCHS = partial(EMA, update_every_n_steps=0, update_starting_at_epoch=0)
SWA = partial(StochasticWeightAveraging, swa_lrs=0.01, swa_epoch_start=1, annealing_epochs=2)
RARE = {"check_val_every_n_epoch": 2}

# settings of the learner, callbacks, settings of the trainer
KINDS = {
    "halving": ({"lr_scheduler": HALVING}, [], {}),
    "halving, rare validation": ({"lr_scheduler": HALVING}, [], RARE),
    "halving, no validation": ({"lr_scheduler": HALVING}, [], {"limit_val_batches": 0}),
    "halving, validation within": ({"lr_scheduler": HALVING}, [], {"val_check_interval": 1}),
    "stopping on validation": ({}, [partial(EARLY, "val/loss")], {}),
    "stopping after validation": ({}, [partial(EARLY, "val/loss", check_on_train_epoch_end=False)], {}),
    "stopping on training": ({}, [partial(EARLY, "train/loss")], {}),
    "stopping, rare validation": ({}, [partial(EARLY, "train/loss", check_on_train_epoch_end=True)], RARE),
    "plateau": ({"lr_scheduler": PLATEAU}, [], {}),
    "plateau, rare validation": ({"lr_scheduler": PLATEAU}, [], RARE),
    "plateau in training, rare validation": ({"lr_scheduler": IN_TRAINING}, [], RARE),
    "halving, rarer validation": ({"lr_scheduler": HALVING}, [], {"check_val_every_n_epoch": 4}),
    "ema by epochs, steps": ({}, [BY_EPOCHS], RARE | {"max_epochs": -1, "max_steps": 5}),
    "ema": ({}, [EMA], {}),
    "ema by epochs": ({}, [BY_EPOCHS], {}),
    "ema by epochs, rare validation": ({}, [BY_EPOCHS], RARE),
    "swa": ({}, [SWA], {}),
    "swa, schedule": ({"lr_scheduler": HALVING}, [SWA], {}),
    "swa, running statistics": ({"normed": True}, [SWA], {}),
    "ema, running statistics": ({"normed": True}, [EMA], {}),
    "reloaded": ({}, [], {"reload_dataloaders_every_n_epochs": 1}),
}  # fmt: skip


def fit(folder, learner, callbacks, trainer):
    return end_of(folder, learner, callbacks, **trainer)


@pytest.fixture
def copies(monkeypatch, tmp_path):
    """Copies of the run folder ``whole``, one after each write of ``last.ckpt``."""
    save, copied = AtomicCheckpointIO.save_checkpoint, []

    def save_and_copy(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        if Path(path) == tmp_path / "whole" / "checkpoints" / "last.ckpt":
            copied.append(tmp_path / f"copy {len(copied)}, step {checkpoint['global_step']}")
            shutil.copytree(tmp_path / "whole", copied[-1])

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save_and_copy)
    return copied


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.sample(3)
def test_run_resumed_from_any_of_its_checkpoints_ends_the_same(kind, copies, tmp_path):
    expected = fit(tmp_path / "whole", *KINDS[kind])
    assert len(copies) > 4
    wrong = {}
    for copy in copies:
        try:
            found = differences(expected, fit(copy, *KINDS[kind]))
        except Exception as error:
            found = repr(error)[:200]
        if found:
            wrong[copy.name] = found
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())
