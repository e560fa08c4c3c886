"""A progress bar for training steps that may take less than a millisecond."""

import sys
from collections.abc import Mapping
from time import monotonic
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import convert_inf
from torch import Tensor

from metalit.episode import Episode
from metalit.errors import positive


class EpisodeProgressBar(TQDMProgressBar):
    """Shows loss, accuracy (or squared error), and episodes per second over all ranks.

    Drawing the bar takes longer than a small inner loop, so it is redrawn after a time instead of after each batch.
    If the output is not a terminal, such as the log file of a job, lines are printed instead.

    Args:
        refresh_seconds: seconds between two updates of the bar, > 0.
        line_seconds: seconds between two lines if there is no terminal, > 0; a last line is printed at the end of
            training.

    Raises:
        SettingError: an argument is not positive and finite.
    """

    BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"

    def __init__(self, refresh_seconds: float = 0.5, line_seconds: float = 10.0) -> None:
        super().__init__()
        self.refresh_seconds = positive("refresh_seconds", refresh_seconds)
        self.line_seconds = positive("line_seconds", line_seconds)
        self._terminal = True
        self._due = 0.0
        self._batches = self._batches_then = self._batch_idx = self._epoch = 0
        self._total: float = 0
        self._since = self._evaluating_since = 0.0
        self._rate: float | None = None
        self._loss: Any = None

    @property
    def is_enabled(self) -> bool:
        """Whether bars are drawn: on rank zero, on a terminal or in a notebook."""
        return self._enabled and self._terminal

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Detect whether the output is a terminal or a notebook."""
        super().setup(trainer, pl_module, stage)
        self._terminal = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._due = monotonic() + (0.0 if self._terminal else self.line_seconds)

    def on_train_start(self, *args: Any) -> None:
        """Create the bar and start measuring the speed."""
        super().on_train_start(*args)
        self._since, self._batches_then = monotonic(), self._batches

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Reset the bar for the next epoch without drawing it."""
        # Lightning's method, which draws, is not called: an epoch may be shorter than the time between two drawings
        self._epoch, self._total = trainer.current_epoch, _batches_of_epoch(trainer)
        bar = self.train_progress_bar
        if not bar.disable:
            bar.total, bar.n, bar.start_t = convert_inf(self._total), 0, bar._time()
            bar.set_description(f"Epoch {self._epoch}", refresh=False)

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Episode,
        batch_idx: int,
    ) -> None:
        """Count the batch, and draw the bar if an update is due."""
        # everything before the first return runs at every step, so it must be cheap
        self._batches += 1
        self._batch_idx = batch_idx
        now = monotonic()
        if now < self._due:
            return
        self._is_due()
        if self._enabled:
            self._loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
            tasks = (self._batches - self._batches_then) * len(batch.query.y) * trainer.world_size
            self._rate = tasks / max(now - self._since, 1e-9)
            self._since, self._batches_then = now, self._batches
            self._show_training(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do nothing: the bar is drawn only when an update is due."""

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the last state of training."""
        if self._enabled and self._batches:
            self._show_training(trainer, pl_module)
        super().on_train_end(trainer, pl_module)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Pause the clock of the training speed."""
        super().on_validation_start(trainer, pl_module)
        self._evaluating_since = monotonic()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Resume the clock of the training speed."""
        if self._train_progress_bar is not None:  # Lightning redraws this bar, whose count is as old as its last update
            self._train_progress_bar.n = self._batch_idx + 1
        super().on_validation_end(trainer, pl_module)
        self._since += monotonic() - self._evaluating_since

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Create the bar of the test and start its clock."""
        super().on_test_start(trainer, pl_module)
        self._evaluating_since = monotonic()

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Create the bar of the prediction and start its clock."""
        super().on_predict_start(trainer, pl_module)
        self._evaluating_since = monotonic()

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Update the bar or print a line of the validation if one is due."""
        super().on_validation_batch_end(*args, **kwargs)
        self._line_if_due(self.validation_description, args[4], self.total_val_batches_current_dataloader)

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Update the bar or print a line of the test if one is due."""
        super().on_test_batch_end(*args, **kwargs)
        self._line_if_due(self.test_description, args[4], self.total_test_batches_current_dataloader)

    def on_predict_batch_end(self, *args: Any, **kwargs: Any) -> None:
        """Update the bar or print a line of the prediction if one is due."""
        super().on_predict_batch_end(*args, **kwargs)
        self._line_if_due(self.predict_description, args[4], self.total_predict_batches_current_dataloader)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the text beside the bar, by name: the last training and validation metrics and the speed."""
        # a metric appears once it is logged; before the first logged loss, the step's own is shown
        logged = trainer.callback_metrics
        shown = {}
        for name in ("train/loss", "train/accuracy", "train/mse", "val/accuracy", "val/mse"):
            value = logged.get(name, self._loss if name == "train/loss" else None)
            if value is not None:
                interval = logged.get(f"{name}_ci95") if name.endswith(("accuracy", "mse")) else None
                text = _text(name, float(value)) + ("" if interval is None else f"±{_text(name, float(interval))}")
                shown[name.removeprefix("train/")] = text
        if self._rate is not None:
            shown["episodes/s"] = f"{self._rate:,.0f}" if self._rate >= 10 else f"{self._rate:.2f}"
        return shown

    def _is_due(self) -> bool:
        now = monotonic()
        if now < self._due:
            return False
        self._due = now + (self.refresh_seconds if self._terminal else self.line_seconds)
        return True

    def _should_update(self, current: int, total: int) -> bool:
        return self.is_enabled and (current == total or self._is_due())

    def _show_training(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        metrics = self.get_metrics(trainer, pl_module)
        done = self._batch_idx + 1
        if self._terminal:
            bar = self.train_progress_bar
            bar.n = done
            bar.set_postfix(metrics, refresh=False)
            bar.refresh()
        else:
            values = ", ".join(f"{name} {value}" for name, value in metrics.items())
            _write_line(f"Epoch {self._epoch}, {done}/{self._total}: {values}")

    def _line_if_due(self, stage: str, batch_idx: int, total: float) -> None:
        # a short validation must not print a line in place of the training's next one
        lasting = monotonic() - self._evaluating_since >= self.line_seconds
        if lasting and self._enabled and not self._terminal and self._is_due():
            _write_line(f"{stage}, {batch_idx + 1}/{total}")


def _batches_of_epoch(trainer: L.Trainer) -> float:
    """Return the number of batches in the starting or resumed epoch, limited by ``max_steps``."""
    if trainer.max_steps < 0:
        return trainer.num_training_batches
    whole = trainer.num_training_batches
    ready = trainer.fit_loop.epoch_loop.batch_progress.current.ready
    # in a new epoch Lightning has not yet reset the count, which then still equals that of the whole epoch before
    done = ready if ready < whole else 0
    return min(whole, done + (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)


def _text(name: str, value: float) -> str:
    return f"{value:.4f}" if name.endswith("accuracy") else f"{value:.4g}"


def _write_line(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()  # so that a log file can be followed live
