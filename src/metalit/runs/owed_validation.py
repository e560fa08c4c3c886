"""A training that ended between a step and the end of the validation after it goes on with that validation."""

from typing import Any

import lightning as L

from metalit.private import validation_follows

BATCH = "epoch_loop.batch_progress"
VALIDATION = "epoch_loop.val_loop.batch_progress"
# Lightning's counts of one that was cut short
OWED = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class OwedValidation(L.Callback):
    """Notes in a checkpoint that a validation comes next, and sees to it that a resumed training begins with it.

    Lightning takes a state that was saved after the last step before a validation, or at its beginning, for one whose
    validation is done: the resumed training would have one validation less, and perhaps another best state.
    """

    def __init__(self) -> None:
        self._max_steps: int | None = None  # what it was before we pretended

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note that a validation comes next, in the way that Lightning notes one that was cut short."""
        counts = checkpoint["loops"]["fit_loop"]
        batch, validation = counts[BATCH], counts[VALIDATION]
        begins = trainer.validating and validation["current"]["ready"] == 0
        if not begins and not (is_at_batch_end(batch) and validates_next(trainer)):
            if batch["is_last_batch"]:  # one that is completed leads to the end of the epoch
                batch["current"]["completed"] = batch["current"]["processed"]
                batch["total"]["completed"] = batch["total"]["processed"]
            return
        is_planned = validates_next(trainer, if_training_ends=False)
        for count in ("total", "current"):
            validation[count].update(OWED)
            # a batch that is completed leads to its validation; one that is not leads to the next batch, which is what
            # is right if there was to be a validation only because the training was to end, and now it is longer
            batch[count]["completed"] = batch[count]["processed"] - (0 if is_planned else 1)
        validation["is_last_batch"] = False

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Pretend that there is a step left to do if there is but a validation: else Lightning would not begin."""
        ended = 0 <= trainer.max_steps <= checkpoint["global_step"]
        if ended and checkpoint["loops"]["fit_loop"][VALIDATION]["total"] == OWED:
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = checkpoint["global_step"] + 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pretend no longer, now that it has begun."""
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._max_steps
            self._max_steps = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Forget the note, so that later checkpoints are without it."""
        loop = trainer.fit_loop.epoch_loop.val_loop
        if loop.restarted_mid_evaluation:
            loop.batch_progress.total.reset()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Validate if there was no step left to do."""
        loop = trainer.fit_loop.epoch_loop.val_loop
        if loop.restarted_mid_evaluation:
            trainer.validating = True
            loop.run()
            trainer.training = True


def is_at_batch_end(batch: dict[str, Any]) -> bool:
    """Whether a batch has been trained on and the callbacks are being told so."""
    return bool(batch["current"]["completed"] < batch["current"]["processed"])


def validates_next(trainer: L.Trainer, *, if_training_ends: bool = True) -> bool:
    """Whether a validation follows the batch that was trained on last.

    Args:
        trainer: that trains.
        if_training_ends: count one that there is only because training stops.
    """
    should_stop = trainer.should_stop
    trainer.should_stop = should_stop and if_training_ends
    try:
        return validation_follows(trainer)
    finally:
        trainer.should_stop = should_stop
