"""A progress bar for training steps that may take less than a millisecond."""

import sys
from collections.abc import Mapping
from time import monotonic, time
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm, convert_inf
from torch import Tensor

from metalit.algorithms.reinforcement.base import PolicyLearner
from metalit.episode import Episode
from metalit.errors import positive

SHOWN = (
    "train/loss", "train/accuracy", "train/mse", "train/rmse", "train/return",
    "val/accuracy", "val/mse", "val/rmse", "val/pearson", "val/delta_auprc", "val/return",
)  # fmt: skip
BAR_FORMAT = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


class EpisodeProgressBar(ProgressBar):
    """Shows loss, accuracy (or squared error, or return), and episodes per second over all ranks.

    For a learner that acts it shows the steps of its environments per second instead.

    Drawing the bar takes longer than a small inner loop, so it is redrawn after a time instead of after each batch.
    If the output is not a terminal, such as the log file of a job, lines are printed instead.

    Args:
        refresh_seconds: seconds between two updates of the bar, > 0.
        line_seconds: seconds between two lines if there is no terminal, > 0; a last line is printed at the end of
            training.

    Raises:
        SettingError: an argument is not positive and finite.
    """

    def __init__(self, refresh_seconds: float = 0.5, line_seconds: float = 10.0) -> None:
        super().__init__()
        self.refresh_seconds = positive("refresh_seconds", refresh_seconds)
        self.line_seconds = positive("line_seconds", line_seconds)
        self._enabled = self._terminal = True
        self._bar: Any = None  # of tqdm, for training and evaluation alike; None without a terminal
        self._due = self._epoch_since = self._evaluation_since = 0.0
        self._epoch = 0
        self._done = 0  # batches of the epoch so far; Lightning's own count is one further at the end
        self._since, self._batches = 0.0, 0  # when the speed was last measured, and batches since then
        self._steps: Tensor | int = 0  # of environments, in these batches
        self._speed: float | None = None
        self._loss: Any = None

    def enable(self) -> None:
        """Show progress again."""
        self._enabled = True

    def disable(self) -> None:
        """Show nothing; Lightning calls it on all ranks but the first."""
        self._enabled = False

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print without breaking the bar."""
        Tqdm.write(sep.join(map(str, args)), **kwargs)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Detect whether the output is a terminal or a notebook."""
        super().setup(trainer, pl_module, stage)
        self._terminal = sys.stdout.isatty() or "ipykernel" in sys.modules
        self._due = monotonic() + (0.0 if self._terminal else self.line_seconds)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open the bar and start measuring the speed."""
        self._open("Training")
        self._since, self._batches, self._done, self._steps = monotonic(), 0, 0, 0
        # Lightning does not start the epoch again in which a resumed training goes on
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the epoch; nothing is drawn, for an epoch may be shorter than the time between updates."""
        self._epoch, self._epoch_since = trainer.current_epoch, monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Tensor | Mapping[str, Any] | None,
        batch: Episode,
        batch_idx: int,
    ) -> None:
        """Count the batch, and show it if an update is due."""
        # everything before the return runs at every step, so it must be cheap
        self._batches += 1
        self._done = batch_idx + 1
        if isinstance(pl_module, PolicyLearner):
            self._steps = self._steps + pl_module.steps_taken
        now = monotonic()
        if now < self._due:
            return
        self._loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        done = int(self._steps) if isinstance(pl_module, PolicyLearner) else self._batches * len(batch.index)
        self._speed = done * trainer.world_size / max(now - self._since, 1e-9)
        self._since, self._batches, self._steps = now, 0, 0
        self._show_training(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the last state of training."""
        if self._done:
            self._show_training(trainer, pl_module)
        self._close()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock of the evaluation."""
        self._open(_evaluation_of(trainer)[0])
        self._evaluation_since = monotonic()

    on_test_start = on_predict_start = on_validation_start

    def on_validation_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the batch if an update is due."""
        stage, totals = _evaluation_of(trainer)
        done, total = batch_idx + 1, totals[dataloader_idx]
        now = monotonic()
        # a short validation must not print a line in place of the training's next one
        lasts = self._terminal or now - self._evaluation_since >= self.line_seconds
        if (lasts and now >= self._due) or (self._terminal and done == total):
            self._show(stage, done, total, self._evaluation_since, {})

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the time of the validation out of the speed of training."""
        self._since += monotonic() - self._evaluation_since
        if trainer.state.fn != "fit":
            self._close()
        elif self._terminal and self._done:  # the bar shows the validation, and the next update may be far
            self._show_training(trainer, pl_module)

    on_test_end = on_predict_end = on_validation_end

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, Any]:
        """Return the text beside the bar, by name: the last training and validation metrics and the speed."""
        # a metric appears once it is logged; before the first logged loss, the step's own is shown
        logged = trainer.callback_metrics
        shown = {}
        for name in SHOWN:
            value = logged.get(name, self._loss if name == "train/loss" else None)
            if value is not None:
                form = ".4f" if name.endswith("accuracy") else ".4g"
                interval = f"±{float(logged[f'{name}_ci95']):{form}}" if f"{name}_ci95" in logged else ""
                shown[name.removeprefix("train/")] = f"{float(value):{form}}{interval}"
        if self._speed is not None:
            shown["steps/s" if isinstance(pl_module, PolicyLearner) else "episodes/s"] = (
                f"{self._speed:,.0f}" if self._speed >= 10 else f"{self._speed:.2f}"
            )
        return shown

    def _open(self, stage: str) -> None:
        if self._enabled and self._terminal and self._bar is None:
            self._bar = Tqdm(desc=stage, dynamic_ncols=True, file=sys.stdout, bar_format=BAR_FORMAT)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _show_training(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        total, accumulated = trainer.num_training_batches, trainer.accumulate_grad_batches
        if trainer.max_steps >= 0:  # which may end the epoch early
            left = (trainer.max_steps - trainer.global_step) * accumulated
            total = min(total, self._done - self._done % accumulated + left)
        metrics = self.get_metrics(trainer, pl_module)
        self._show(f"Epoch {self._epoch}", self._done, total, self._epoch_since, metrics)

    def _show(self, stage: str, done: int, total: float, since: float, metrics: Mapping[str, str]) -> None:
        now = monotonic()
        self._due = now + (self.refresh_seconds if self._terminal else self.line_seconds)
        if self._bar is not None:
            self._bar.n, self._bar.total = done, convert_inf(total)
            self._bar.start_t = time() - (now - since)
            self._bar.set_description(stage, refresh=False)
            self._bar.set_postfix(metrics)
        elif self._enabled:
            values = ", ".join(f"{name} {value}" for name, value in metrics.items())
            sys.stdout.write(f"{stage}, {done}/{total}{': ' if values else ''}{values}\n")
            sys.stdout.flush()  # so that a log file can be followed live


def _evaluation_of(trainer: L.Trainer) -> tuple[str, list[int | float]]:
    """Return the name of the evaluation in progress and the number of batches of each of its loaders."""
    if trainer.sanity_checking:
        return "Sanity Checking", trainer.num_sanity_val_batches
    if trainer.testing:
        return "Testing", trainer.num_test_batches
    if trainer.predicting:
        return "Predicting", trainer.num_predict_batches
    return "Validation", trainer.num_val_batches
