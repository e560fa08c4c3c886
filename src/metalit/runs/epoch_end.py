"""Resuming at the end of an epoch: the epoch ends exactly as in an uninterrupted training."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import StochasticWeightAveraging
from torch import Tensor, nn

from metalit.private import set_logged_steps, set_validated

METRICS = "metrics"  # key in a checkpoint


class EpochEnd(L.Callback):
    """Stores the last logged metrics in checkpoints, so that a resumed training can repeat the end of an epoch.

    A checkpoint is written before the end of an epoch, after its last step or its validation, and a resumed training
    repeats that end. Lightning repeats it without the metrics: early stopping would fail, and ``ReduceLROnPlateau``
    would skip its update. Without a validation, Lightning does not repeat the end at all. It also does not initialise
    ``StochasticWeightAveraging`` in an epoch that it resumes.
    """

    def __init__(self) -> None:
        self._metrics: dict[str, Tensor] | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Skip the extra batch-norm epoch of ``StochasticWeightAveraging`` if there are no running statistics."""
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            # Lightning adds that epoch for any batch norm, and fails in it where running_mean is None
            if isinstance(callback, StochasticWeightAveraging) and not has_running_statistics(pl_module):
                callback.pl_module_contains_batch_norm = has_running_statistics  # type: ignore[method-assign,assignment]

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the metrics in the checkpoint."""
        checkpoint[METRICS] = {name: value.cpu() for name, value in trainer.callback_metrics.items()}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the metrics from the checkpoint; older checkpoints have none."""
        self._metrics = checkpoint.get(METRICS, {})

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the metrics, and prepare Lightning's loops and weight averaging for a resume at an epoch's end."""
        if self._metrics is None:
            return
        trainer.callback_metrics.update({name: value.to(pl_module.device) for name, value in self._metrics.items()})
        self._metrics = None
        loop = trainer.fit_loop.epoch_loop
        is_validation_pending = loop.val_loop.restarted_mid_evaluation  # see OwedValidation
        # Resumed after the epoch's last batch with no validation pending: without the first call Lightning trains on
        # one more batch; and RunCheckpoint corrects the step count only when a batch or a validation starts
        if loop.restarted_on_last and loop.batch_progress.is_last_batch and not is_validation_pending:
            set_validated(trainer)
            set_logged_steps(trainer, trainer.global_step)
        # Lightning calls on_train_epoch_start, where averaging is initialised, only for epochs that begin
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            is_averaging = isinstance(callback, StochasticWeightAveraging) and trainer.current_epoch <= callback.swa_end
            # not in the epoch after swa_end, which recomputes batch-norm statistics
            if is_averaging and trainer.fit_loop.restarted_mid_epoch:
                callback.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear Lightning's restart flag, so that ``ReduceLROnPlateau`` also updates after a resume."""
        # Lightning skips it while restarting, for lack of metrics, which on_train_start has restored. The setter of
        # fit_loop.restarting ignores False in a training limited by max_steps; on_iteration_done does not
        trainer.fit_loop.on_iteration_done()
        trainer.fit_loop.epoch_loop.restarting = False


def has_running_statistics(module: nn.Module) -> bool:
    """Whether any batch norm of a module keeps running statistics."""
    return any(getattr(each, "running_mean", None) is not None for each in module.modules())
