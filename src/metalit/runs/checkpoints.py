"""The checkpoint callback: when a run saves its state, and how it restores an earlier one."""

import shutil
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from metalit.errors import SettingError, check
from metalit.files import keep_old
from metalit.private import accumulates, set_logged_steps, skips_backward
from metalit.runs.checkpoint_files import FOLDER, KEYWORDS, PREVIOUS, AtomicCheckpointIO
from metalit.runs.owed_validation import validates_next

FAILED = "failed"  # the state just before a loss or gradient that is not finite
TRAINED = "trained_state"  # key in a checkpoint: the weights before averaging at the end of training
AGREE_EVERY = 20  # batches after which several ranks agree again on whether a save is due; each time costs a message


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, chosen on validation, and ``last.ckpt``, to resume from, in a run folder's ``checkpoints``.

    ``last.ckpt`` is written every ``every_n_minutes`` or ``every_n_steps``, after each validation, after each epoch
    without a validation, and when training stops, also within an epoch. The final state of a training is validated, so
    it can become the best one. (Lightning's own ``save_last`` follows improvements only.) ``previous.ckpt`` is the
    ``last.ckpt`` before the current one. After a loss or gradient that is not finite, ``failed.ckpt`` holds the state
    just before it. Files of an earlier training in the same folder are renamed with a number.

    Args:
        monitor: metric that decides which checkpoint is best, as logged in validation, such as ``val/accuracy``.
        mode: whether the smallest (``min``) or the largest (``max``) value is best.
        every_n_minutes: minutes from one save of ``last.ckpt`` to the next, > 0; null for no saving by time.
        every_n_steps: training steps from one save of ``last.ckpt`` to the next, > 0; null for no saving by steps.

    Raises:
        SettingError: ``every_n_minutes`` or ``every_n_steps`` is not above 0.
    """

    def __init__(
        self,
        monitor: str = "val/loss",
        mode: Literal["min", "max"] = "min",
        every_n_minutes: float | None = 10.0,
        every_n_steps: int | None = None,
    ) -> None:
        for name, value in (("every_n_minutes", every_n_minutes), ("every_n_steps", every_n_steps)):
            check(name, value, value is None or value > 0, "above 0, or null for never")
        super().__init__(
            monitor=monitor,
            mode=mode,
            filename="best",
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self.every_n_minutes, self.every_n_steps = every_n_minutes, every_n_steps
        self._saved_step: int | None = None
        self._inode: int | None = None  # of the folder, to notice if another takes its place
        self._saved_at = 0.0
        self._stopping = False
        self._continues = False  # whether the resumed checkpoint is from this very folder
        self._resumed = False  # until the first batch after a resume

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Set the folder, and make the strategy write checkpoints atomically."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve() / FOLDER)
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # the default; keep a plugin the user has chosen
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note whether the checkpoint lies in this run's folder, and restore the weights to train on."""
        self._saved_step = checkpoint["global_step"]
        # by the path it is loaded from, not the one stored in it: the run folder may have been moved
        self._continues = Path(str(trainer.ckpt_path)).resolve().parent == self.folder
        self._resumed = True
        # the state_dict holds the averaged weights, which are for evaluation; training resumes from its own
        if TRAINED in checkpoint and trainer.state.fn == TrainerFn.FITTING:
            pl_module.load_state_dict(checkpoint[TRAINED])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best score and paths if the checkpoint is from this folder; otherwise start without a best."""
        if self._continues:  # set already: Lightning calls on_load_checkpoint first
            super().load_state_dict(moved(state_dict, self.folder))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Rename checkpoints that another training left in the folder."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()
        if not trainer.is_global_zero or is_quick_check(trainer):
            return
        if not self._continues:
            for keyword in (*KEYWORDS, PREVIOUS, FAILED):
                keep_old(self.path(keyword))
        self.folder.mkdir(parents=True, exist_ok=True)
        self._inode = self.folder.stat().st_ino

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the trained state, so that a process that ends during the validation loses no training."""
        if self._resumed:  # a resumed training may begin with a validation; see on_train_batch_start
            # Lightning validates after a step before it counts that step for the loggers
            set_logged_steps(trainer, trainer.global_step - 1)
        if self._saved_step != trainer.global_step and is_resumable(trainer):
            self.save_now(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Correct the loggers' step count after a resume."""
        if self._resumed:  # in some checkpoints Lightning's own count is one step too low
            set_logged_steps(trainer, trainer.global_step)
            self._resumed = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save right after an optimiser step, if a save is due, the epoch ends or training stops."""
        # in place of Lightning's method, which saves by steps and time of its own and is given neither
        if skips_backward(trainer):
            return  # see is_resumable
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # at max_steps alone, Lightning would end without validating the final state
        stops = trainer.should_stop and not self._stopping
        self._stopping = trainer.should_stop
        # saved before the end of the epoch, because a resumed training repeats that end (see EpochEnd); if a
        # validation comes first, it saves
        ends_epoch = trainer.is_last_batch and not validates_next(trainer)
        if stops or (is_resumable(trainer) and (ends_epoch or self._is_due(trainer, batch_idx))):
            self.save_now(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save ``best.ckpt`` if the validation improved, then ``last.ckpt``, which records it."""
        self._check_monitors(trainer)
        super().on_validation_end(trainer, pl_module)
        if is_resumable(trainer):
            self.save_now(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put averaged weights into ``last.ckpt``, and copy it to ``best.ckpt`` if nothing was validated."""
        super().on_train_end(trainer, pl_module)
        best, last = (self.path(keyword) for keyword in KEYWORDS)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
        averages = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
        if averages and last.exists():
            checkpoint = torch.load(last, map_location="cpu", weights_only=True)
            # for a longer training; a file that holds averaged weights already has this entry, which must stay
            checkpoint.setdefault(TRAINED, checkpoint["state_dict"])
            checkpoint["state_dict"] = pl_module.state_dict()
            trainer.strategy.save_checkpoint(checkpoint, last)
        if trainer.is_global_zero and last.exists() and not best.exists():
            shutil.copyfile(last, best)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save ``failed.ckpt`` after a loss or gradient that is not finite."""
        if isinstance(exception, OSError):  # replace a message about one file by the cause
            self._check_folder()
        # last.ckpt stays as it is; the weights are still those before the failed step
        if isinstance(exception, FloatingPointError) and not is_quick_check(trainer):
            trainer.save_checkpoint(self.path(FAILED))
            rank_zero_info(f"The state before it is in {self.path(FAILED)}")

    @property
    def folder(self) -> Path:
        """The folder of the checkpoints, known from ``setup`` on."""
        return Path(str(self.dirpath))

    def path(self, keyword: str) -> Path:
        """Return the path of ``best``, ``last``, ``previous`` or ``failed``."""
        return self.folder / f"{keyword}.ckpt"

    def save_now(self, trainer: L.Trainer) -> None:
        """Save ``last.ckpt`` and flush the loggers; all ranks call this together."""
        if is_quick_check(trainer):
            return
        self._check_folder()
        for logger in trainer.loggers:
            logger.save()  # first, so that the logged metrics are never behind the checkpoint
        trainer.save_checkpoint(self.path("last"))
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _check_folder(self) -> None:
        # if the folder was removed or moved, the next write would create an empty one under its name
        if self._inode is not None and not (self.folder.exists() and self.folder.stat().st_ino == self._inode):
            self._inode = None  # one message is enough
            raise OSError(
                f"run_dir: {self.folder.parent} was removed or moved while the training was writing into it, so what "
                "came after its last checkpoint is lost; if it was moved, go on with --run_dir NEW_PLACE "
                "--ckpt_path last"
            )

    def _is_due(self, trainer: L.Trainer, batch_idx: int) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.every_n_minutes is None or (trainer.world_size > 1 and batch_idx % AGREE_EVERY):
            return False
        # the ranks' clocks differ and saving needs all ranks, so one that is late decides for all
        is_late = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        return is_late if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(is_late, all=False)

    def _check_monitors(self, trainer: L.Trainer) -> None:
        # checked after the sanity validation: Lightning itself would fail after the first epoch, which may take an hour
        if not trainer.sanity_checking:
            return
        logged = sorted(name for name in trainer.callback_metrics if not name.endswith(("_ci95", "_adaptation")))
        monitors = [("checkpoint.monitor", str(self.monitor))]
        monitors += [("trainer.callbacks.monitor", str(each.monitor)) for each in trainer.early_stopping_callbacks]
        for config in trainer.lr_scheduler_configs:
            monitors += [("model.lr_scheduler.monitor", str(config.monitor))] if config.reduce_on_plateau else []
        for option, monitor in monitors:
            # training metrics are not logged yet
            if not monitor.startswith("train/") and monitor not in trainer.callback_metrics:
                raise SettingError(option, monitor, f"a metric that validation logs: {', '.join(logged)}")


def moved(state: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the state of a checkpoint callback with its paths changed to the folder its files are in now."""

    def here(path: str) -> str:
        return path and str(folder / Path(path).name)

    paths = {name: here(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {here(path): score for path, score in state["best_k_models"].items()}
    return {**state, "dirpath": str(folder), "best_k_models": best, **paths}


def is_resumable(trainer: L.Trainer) -> bool:
    """Whether a training can be resumed from its present state.

    It cannot between batches whose gradients are accumulated, which a checkpoint does not hold, nor in the extra epoch
    in which ``StochasticWeightAveraging`` recomputes batch-norm statistics: a resumed training repeats that epoch.
    """
    fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    return fits and not skips_backward(trainer) and not accumulates(trainer)


def is_quick_check(trainer: L.Trainer) -> bool:
    """Whether this is a ``fast_dev_run``, which writes no files."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set outside its class
