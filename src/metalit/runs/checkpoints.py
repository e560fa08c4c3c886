"""Finding, checking and keeping files of a run."""

import shutil
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn

KEYWORDS = ("best", "last")
FOLDER = "checkpoints"  # within a run folder


class RunCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``, chosen on validation, and ``last.ckpt``, to go on from, in ``checkpoints`` of a run folder.

    ``last.ckpt`` is written after each validation, after each epoch without one, and when training stops, in the
    midst of an epoch too; the state that training stops with is validated, so that it may be the best. Lightning's own
    ``save_last`` keeps up with improvements only. Files of an earlier training in the folder get a number.

    Args:
        monitor: what is best: a metric that validation logs, such as ``val/accuracy``.
        mode: whether the smallest (``min``) or the largest (``max``) value is best.
    """

    def __init__(self, monitor: str = "val/loss", mode: Literal["min", "max"] = "min") -> None:
        super().__init__(
            monitor=monitor,
            mode=mode,
            filename="best",
            auto_insert_metric_name=False,
            enable_version_counter=False,
            save_on_train_epoch_end=False,
        )
        self._saved_step: int | None = None
        self._stopping = False
        self._continues = False

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Choose the folder."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve() / FOLDER)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the count of an earlier training, and note whether its files are in this folder."""
        self._continues = state_dict["dirpath"] == self.dirpath
        if self._continues:
            super().load_state_dict(state_dict)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Give what another training left in the folder a number."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and not self._continues and not is_quick_check(trainer):
            for keyword in KEYWORDS:
                keep_old(self.path(keyword))

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Save the state that training stops with, where a resumed run can take it up: right after the step."""
        super().on_train_batch_end(trainer, *args)
        if 0 <= trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True  # Lightning validates before it stops if it is told so, and only then
        if trainer.should_stop and not self._stopping:
            self._stopping = True
            self._save_last(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what is best by now, then the last state, which knows it."""
        self._check_monitor(trainer)
        super().on_validation_end(trainer, pl_module)
        if trainer.state.fn == TrainerFn.FITTING and not trainer.sanity_checking:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last state of an epoch that had no validation."""
        if self._saved_step != trainer.global_step:
            self._save_last(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Call the last state the best if there was no validation at all."""
        super().on_train_end(trainer, pl_module)
        best, last = (self.path(keyword) for keyword in KEYWORDS)
        if trainer.is_global_zero and last.exists() and not best.exists():
            shutil.copyfile(last, best)

    def path(self, keyword: str) -> Path:
        """Return where ``best`` or ``last`` is kept."""
        assert self.dirpath is not None
        return Path(self.dirpath) / f"{keyword}.ckpt"

    def _save_last(self, trainer: L.Trainer) -> None:
        if not is_quick_check(trainer):
            self._saved_step = trainer.global_step
            trainer.save_checkpoint(self.path("last"))

    def _check_monitor(self, trainer: L.Trainer) -> None:
        # Lightning would find out after the first epoch, which may take an hour
        if trainer.sanity_checking and self.monitor not in trainer.callback_metrics:
            logged = sorted(
                name for name in trainer.callback_metrics if not name.endswith(("_ci95", "_adaptation"))
            )
            raise ValueError(f"checkpoint.monitor is {self.monitor}, but validation logs {', '.join(logged)}")


def is_quick_check(trainer: L.Trainer) -> bool:
    """Whether this is a ``fast_dev_run``, which leaves no files."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # set outside its class


def resolve_checkpoint(asked: str | None, run_dir: Path, *, fitting: bool) -> str | None:
    """Return the checkpoint's path.

    Args:
        asked: a path, or ``best`` or ``last`` for the run folder's own, or None.
        run_dir: the run folder.
        fitting: then a ``last`` that does not exist yet means a start from the beginning.

    Raises:
        FileNotFoundError: there is no such checkpoint.
    """
    if asked is None:
        return None
    path = run_dir / FOLDER / f"{asked}.ckpt" if asked in KEYWORDS else Path(asked)
    if path.is_file():
        return str(path)
    if fitting and asked == "last":
        return None
    raise FileNotFoundError(
        f"ckpt_path is {asked}, but there is no checkpoint {path}: give --ckpt_path a file, or best or last "
        "with --run_dir"
    )


def check_checkpoint(path: str | None, model: nn.Module) -> None:
    """Refuse a file that is no checkpoint, or one of another model.

    Raises:
        ValueError: with what was found and what this model has.
    """
    if path is None:
        return
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    except Exception as error:  # the reader meets arbitrary bytes, and fails in as many ways
        raise ValueError(
            f"ckpt_path is {path}, which is not a checkpoint of metalit, or is damaged ({type(error).__name__}); "
            "give another one, such as last or best with --run_dir"
        ) from error
    expected = model.state_dict()
    problems = [f"{name} is missing" for name in expected.keys() - found.keys()]
    problems += [f"{name} is not in this model" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {list(found[name].shape)}, but {list(value.shape)} here"
        for name, value in expected.items()
        if name in found and found[name].shape != value.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more differences)" if len(problems) > 3 else ""
        raise ValueError(
            f"ckpt_path is {path}, which does not fit the model of this configuration: "
            f"{'; '.join(sorted(problems)[:3])}{more}; give the configuration it was trained with (config.yaml in its "
            "run folder)"
        )


def keep_old(path: Path) -> None:
    """Give an existing file a numbered name, so that a new one loses nothing."""
    if path.exists():
        number = 1
        while (kept := path.with_stem(f"{path.stem}-{number}")).exists():
            number += 1
        path.rename(kept)
