"""When a run saves its state, and how it takes up an earlier one."""

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
from metalit.private import accumulates, set_logged_steps, skips_backward
from metalit.runs.checkpoint_files import FOLDER, KEYWORDS, PREVIOUS, AtomicCheckpointIO, keep_old
from metalit.runs.owed_validation import validates_next

FAILED = "failed"  # the state at a loss or gradient that is not finite
TRAINED = "trained_state"  # in a checkpoint: the weights before they were averaged when training ended
AGREE_EVERY = 20  # batches from one agreement of several ranks on the time to the next; each costs a message


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, chosen on validation, and ``last.ckpt``, to go on from, in ``checkpoints`` of a run folder.

    ``last.ckpt`` is written every so many minutes or steps, after each validation, after each epoch without one, and
    when training stops, in the midst of an epoch too; the state that training stops with is validated, so that it may
    be the best. Lightning's own ``save_last`` keeps up with improvements only. ``previous.ckpt`` is what ``last.ckpt``
    was before. After a loss or gradient that is not finite, ``failed.ckpt`` is the state before it. Files of an
    earlier training in the folder get a number.

    Args:
        monitor: what is best: a metric that validation logs, such as ``val/accuracy``.
        mode: whether the smallest (``min``) or the largest (``max``) value is best.
        every_n_minutes: save ``last.ckpt`` when so many minutes have passed since it was saved, > 0; never because of
            the time if null.
        every_n_steps: save ``last.ckpt`` after every so many steps, > 0; never because of their number if null.

    Raises:
        ValueError: a time or a number of steps that is not above 0.
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
        self._folder: tuple[int, int] | None = None  # which one it is, should another come in its place
        self._saved_at = 0.0
        self._stepped = 0
        self._stopping = False
        self._continues = False
        self._resumed = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the folder, and have files written whole or not at all."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve() / FOLDER)
        super().setup(trainer, pl_module, stage)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # and not what a user has chosen
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Note whether the files of the training that goes on are in this folder, which may have been moved."""
        self._saved_step = checkpoint["global_step"]
        self._continues = Path(str(trainer.ckpt_path)).resolve().parent == Path(str(self.dirpath))
        self._resumed = True
        if TRAINED in checkpoint and trainer.state.fn == TrainerFn.FITTING:
            pl_module.load_state_dict(checkpoint[TRAINED])

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of an earlier training in this folder."""
        if self._continues:
            super().load_state_dict(moved(state_dict, str(self.dirpath)))

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give what another training left in the folder a number."""
        super().on_train_start(trainer, pl_module)
        self._saved_at, self._stepped = time.monotonic(), trainer.global_step
        if trainer.is_global_zero and not self._continues and not is_quick_check(trainer):
            for keyword in (*KEYWORDS, PREVIOUS, FAILED):
                keep_old(self.path(keyword))
        if trainer.is_global_zero and not is_quick_check(trainer):
            Path(str(self.dirpath)).mkdir(parents=True, exist_ok=True)
            self._folder = identity(str(self.dirpath))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what was trained, so that whatever ends the validation ends nothing else."""
        if self._resumed:  # a resumed training may begin with a validation; see on_train_batch_start
            set_logged_steps(trainer, trainer.global_step - 1)
        if self._saved_step != trainer.global_step and may_go_on_from_here(trainer):
            self.save_now(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        """Let the loggers' count of steps go on where it was: Lightning forgets a step in some of its checkpoints."""
        if self._resumed:
            set_logged_steps(trainer, trainer.global_step)
            self._resumed = False

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save the state where a resumed run can take it up: right after a step."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if skips_backward(trainer):
            return  # see may_go_on_from_here
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # Lightning validates before it stops if it is told so, and only then
        stops = trainer.should_stop and not self._stopping
        self._stopping = trainer.should_stop
        stepped = trainer.global_step != self._stepped  # not amidst the batches whose gradients are accumulated
        self._stepped = trainer.global_step
        # the end of the epoch is repeated when training is resumed, so it must not be in what is saved
        ends_epoch = trainer.is_last_batch and not validates_next(trainer)
        if stops or (stepped and (ends_epoch or self._is_due(trainer, batch_idx))):
            self.save_now(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what is best by now, then the last state, which knows it."""
        self._check_monitors(trainer)
        super().on_validation_end(trainer, pl_module)
        if may_go_on_from_here(trainer):
            self.save_now(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put averaged weights into the last state, and call it the best if there was no validation at all."""
        super().on_train_end(trainer, pl_module)
        best, last = (self.path(keyword) for keyword in KEYWORDS)
        callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
        averages = any(isinstance(callback, StochasticWeightAveraging) for callback in callbacks)
        if averages and last.exists():
            save_averaged(trainer, pl_module, last)
        if trainer.is_global_zero and last.exists() and not best.exists():
            shutil.copyfile(last, best)

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Save the state before a loss or gradient that is not finite, beside the last good one.

        Raises:
            OSError: a file could not be written because its folder is not there any more.
        """
        if isinstance(exception, OSError):
            self._check_folder()
        if isinstance(exception, FloatingPointError) and not is_quick_check(trainer):
            trainer.save_checkpoint(self.path(FAILED))
            rank_zero_info(f"The state before it is in {self.path(FAILED)}")

    def path(self, keyword: str) -> Path:
        """Return where ``best``, ``last``, ``previous`` or ``failed`` is kept."""
        assert self.dirpath is not None
        return Path(self.dirpath) / f"{keyword}.ckpt"

    def save_now(self, trainer: L.Trainer) -> None:
        """Save ``last.ckpt``, and what was logged until now; all ranks together."""
        if is_quick_check(trainer):
            return
        self._check_folder()
        for logger in trainer.loggers:
            logger.save()  # so that metrics are never behind the state from which a run goes on
        trainer.save_checkpoint(self.path("last"))
        self._saved_step, self._saved_at = trainer.global_step, time.monotonic()

    def _check_folder(self) -> None:
        # what writes next may make a new folder of that name, with nothing in it
        if self._folder is not None and identity(str(self.dirpath)) != self._folder:
            folder = Path(str(self.dirpath)).parent
            self._folder = None
            raise OSError(
                f"run_dir: {folder} was removed or moved while the training was writing into it, so what came after "
                "its last checkpoint is lost; if it was moved, go on with --run_dir NEW_PLACE --ckpt_path last"
            )

    def _is_due(self, trainer: L.Trainer, batch_idx: int) -> bool:
        if self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0:
            return True
        if self.every_n_minutes is None or (trainer.world_size > 1 and batch_idx % AGREE_EVERY):
            return False
        is_late = time.monotonic() - self._saved_at >= 60 * self.every_n_minutes
        return is_late if trainer.world_size == 1 else trainer.strategy.reduce_boolean_decision(is_late, all=False)

    def _check_monitors(self, trainer: L.Trainer) -> None:
        # Lightning would find out after the first epoch, which may take an hour
        if not trainer.sanity_checking:
            return
        logged = sorted(name for name in trainer.callback_metrics if not name.endswith(("_ci95", "_adaptation")))
        monitors = [("checkpoint.monitor", str(self.monitor))]
        monitors += [("trainer.callbacks.monitor", str(each.monitor)) for each in trainer.early_stopping_callbacks]
        for config in trainer.lr_scheduler_configs:
            monitors += [("model.lr_scheduler.monitor", str(config.monitor))] if config.reduce_on_plateau else []
        for option, monitor in monitors:
            # a metric of training comes only later
            if not monitor.startswith("train/") and monitor not in trainer.callback_metrics:
                raise SettingError(option, monitor, f"a metric that validation logs: {', '.join(logged)}")


def moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """Return a checkpoint callback's state with the folder that its files are in now."""

    def here(path: str) -> str:
        return str(Path(folder) / Path(path).name) if path else path

    paths = ("best_model_path", "kth_best_model_path", "last_model_path")
    best = {here(path): score for path, score in state["best_k_models"].items()}
    return {**state, "dirpath": folder, "best_k_models": best, **{name: here(state[name]) for name in paths}}


def identity(folder: str) -> tuple[int, int] | None:
    """Return what tells a folder from another of the same name; None if there is none."""
    try:
        found = Path(folder).stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def save_averaged(trainer: L.Trainer, pl_module: L.LightningModule, path: Path) -> None:
    """Put the averaged weights into a checkpoint, and keep beside them those with which a longer training goes on."""
    checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    checkpoint.setdefault(TRAINED, checkpoint["state_dict"])
    checkpoint["state_dict"] = pl_module.state_dict()
    trainer.strategy.save_checkpoint(checkpoint, path)


def may_go_on_from_here(trainer: L.Trainer) -> bool:
    """Whether a validation is one within a training, and not amidst the batches whose gradients are accumulated.

    Nor in the epoch that ``StochasticWeightAveraging`` adds for the statistics of batch norm, without a step: a resumed
    training does that epoch again.
    """
    fits = trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking
    return fits and not skips_backward(trainer) and not accumulates(trainer)


def is_quick_check(trainer: L.Trainer) -> bool:
    """Whether this is a ``fast_dev_run``, which leaves no files."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set outside its class
