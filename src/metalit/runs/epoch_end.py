"""A training that is resumed at the end of an epoch ends that epoch as the uninterrupted one did."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import Tensor, nn

from metalit.private import set_logged_steps, set_validated

METRICS = "metrics"  # in a checkpoint


class EpochEnd(L.Callback):
    """Keeps in a checkpoint what callbacks and schedules look at when an epoch ends: the metrics logged last.

    A checkpoint is written before the end of an epoch, after its last step or its validation, and the end is repeated
    when training is resumed. Lightning does so without the metrics: early stopping would fail, and
    ``ReduceLROnPlateau`` would not look. Without a validation it does not repeat the end at all. It also does not
    prepare ``StochasticWeightAveraging`` in an epoch that it resumes.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Tensor] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Spare weight averaging the epoch for running statistics where there are none: it would fail in it."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            if isinstance(callback, StochasticWeightAveraging) and not has_running_statistics(pl_module):
                callback.pl_module_contains_batch_norm = has_running_statistics  # type: ignore[method-assign,assignment]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the metrics into the checkpoint."""
        checkpoint[METRICS] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take them out; an older checkpoint has none."""
        self._metrics = checkpoint.get(METRICS, {})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put the metrics back."""
        if self._metrics is None:
            return
        trainer.callback_metrics.update({name: value.to(pl_module.device) for name, value in self._metrics.items()})
        self._metrics = None
        loop = trainer.fit_loop.epoch_loop
        if loop.restarted_on_last and loop.batch_progress.is_last_batch and not owes_validation(trainer):
            set_validated(trainer)
            set_logged_steps(trainer, trainer.global_step)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            if isinstance(callback, StochasticWeightAveraging) and trainer.fit_loop.restarted_mid_epoch:
                prepare_averaging(callback, trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let ``ReduceLROnPlateau`` look at the metrics, which are there even if training was resumed."""
        trainer.fit_loop.on_iteration_done()  # Lightning's setter of restarting takes no False with max_steps
        trainer.fit_loop.epoch_loop.restarting = False


def has_running_statistics(module: nn.Module) -> bool:
    """Whether a batch norm keeps statistics over the batches."""
    return any(getattr(each, "running_mean", None) is not None for each in module.modules())


def owes_validation(trainer: L.Trainer) -> bool:
    """Whether the resumed training begins with a validation."""
    return bool(trainer.fit_loop.epoch_loop.val_loop.restarted_mid_evaluation)


def prepare_averaging(averaging: StochasticWeightAveraging, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Put the schedule of weight averaging in place within the epoch in which training is resumed."""
    if trainer.current_epoch <= averaging.swa_end:
        averaging.on_train_epoch_start(trainer, pl_module)
