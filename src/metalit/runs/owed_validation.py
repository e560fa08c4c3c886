"""Resuming a training that ended after a step and before the end of its validation: it begins with that validation."""

from typing import Any

import lightning as L

from metalit.private import validation_follows

# keys of the fit loop's state in a checkpoint
BATCH = "epoch_loop.batch_progress"
VALIDATION = "epoch_loop.val_loop.batch_progress"
# Lightning's counters of a validation interrupted in its first batch
OWED = {"ready": 1, "started": 1, "processed": 0, "completed": 0}


class OwedValidation(L.Callback):
    """Records in a checkpoint that a validation is pending, and runs it when training is resumed.

    Lightning treats a state saved after the last step before a validation, or at the start of that validation, as
    already validated: the resumed training would miss one validation, and might select another best checkpoint.
    """

    def __init__(self) -> None:
        self._max_steps: int | None = None  # the true limit while it is raised by one

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Record a pending validation in the way that Lightning records an interrupted one."""
        # the loops' state in the checkpoint is edited, never the loops themselves
        counts = checkpoint["loops"]["fit_loop"]
        batch, validation = counts[BATCH], counts[VALIDATION]
        begins = trainer.validating and validation["current"]["ready"] == 0
        # in on_train_batch_end a batch is processed, but not yet completed
        is_batch_end = batch["current"]["completed"] < batch["current"]["processed"]
        if not begins and not (is_batch_end and validates_next(trainer)):
            if batch["is_last_batch"]:  # a completed last batch makes Lightning resume at the end of the epoch
                batch["current"]["completed"] = batch["current"]["processed"]
                batch["total"]["completed"] = batch["total"]["processed"]
            return
        is_planned = validates_next(trainer, if_training_ends=False)
        for count in ("total", "current"):
            validation[count].update(OWED)
            # After a completed batch Lightning resumes with its validation, after an uncompleted one with the next
            # batch. The latter is right for a validation that was due only because training ended: if max_steps is
            # larger on resume, training continues instead
            batch[count]["completed"] = batch[count]["processed"] - (0 if is_planned else 1)
        validation["is_last_batch"] = False

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Raise max_steps by one so that Lightning enters the loop and runs the pending validation."""
        # at max_steps Lightning's fit loop returns before on_train_start
        ended = 0 <= trainer.max_steps <= checkpoint["global_step"]
        if ended and checkpoint["loops"]["fit_loop"][VALIDATION]["total"] == OWED:
            self._max_steps = trainer.max_steps
            trainer.fit_loop.epoch_loop.max_steps = checkpoint["global_step"] + 1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore max_steps, now that the loop has started."""
        if self._max_steps is not None:
            trainer.fit_loop.epoch_loop.max_steps = self._max_steps
            self._max_steps = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear the record, so that later checkpoints do not contain it."""
        loop = trainer.fit_loop.epoch_loop.val_loop
        if loop.restarted_mid_evaluation:
            loop.batch_progress.total.reset()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Run the pending validation if no step was left to train."""
        # with the true max_steps restored, the fit loop ended without an epoch, so the flag is still set
        loop = trainer.fit_loop.epoch_loop.val_loop
        if loop.restarted_mid_evaluation:
            trainer.validating = True
            loop.run()
            trainer.training = True


def validates_next(trainer: L.Trainer, *, if_training_ends: bool = True) -> bool:
    """Whether a validation follows the last trained batch, perhaps only because training ends."""
    # Lightning always validates when should_stop is set; clear the flag to ask whether it would validate anyway
    should_stop = trainer.should_stop
    trainer.should_stop = should_stop and if_training_ends
    try:
        return validation_follows(trainer)
    finally:
        trainer.should_stop = should_stop
