"""Options override the checkpoint: a resumed training restores states, but uses the settings given now."""

import inspect
import warnings
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Checkpoint, ModelSummary, ProgressBar
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from metalit.errors import UserError

SETTINGS, STOPPED = "settings", "stopped"  # keys in a checkpoint
Settings = dict[str, Any]


class GivenSettings(L.Callback):
    """Stores the settings of optimiser, schedule and callbacks in checkpoints, so that options override them on resume.

    The states of these objects mix settings (a learning rate, a decay, a patience) with the progress of training. When
    training is resumed, a setting that was changed since takes its new value; everything else is restored from the
    checkpoint. A schedule with a changed setting continues as if it had had that setting from the beginning.

    A checkpoint also records whether a callback has stopped the training. Such a training counts as complete when it is
    resumed, unless its callbacks or its limits have changed.

    This callback must come before all others, which may change their settings when training starts.
    """

    def __init__(self) -> None:
        self._given: Settings = {}  # the settings given now
        self._groups: list[list[Settings]] = []  # per optimiser and parameter group: hyper-parameters given now
        self._checkpoint: Settings | None = None  # the settings in the checkpoint, until training starts

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Record the settings of the callbacks."""
        if not self._given:  # by the time of a second fit, callbacks may have changed their settings
            limits = [trainer.max_steps, trainer.max_epochs, trainer.min_steps, trainer.min_epochs]
            callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
            settings = {each.state_key: settings_of(each) for each in callbacks if acts_on_training(each)}
            self._given = {"callbacks": settings, "limits": limits}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the settings from the checkpoint; older checkpoints have none."""
        if SETTINGS in checkpoint:
            self._checkpoint = {key: checkpoint[key] for key in (SETTINGS, STOPPED)}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Record the settings of optimisers and schedules before their states are restored; refuse other classes."""
        self._groups = [[without_parameters(group) for group in each.param_groups] for each in trainer.optimizers]
        self._given["optimizers"] = [[base_rate_in(group) for group in groups] for groups in self._groups]
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._given["schedules"] = [deepcopy(each.state_dict()) for each in schedules]
        self._given["classes"] = {
            "optimizer": " and ".join(class_names(trainer.optimizers)),
            "lr_scheduler": " and ".join(class_names(schedules)) or "null",
        }
        if self._checkpoint is None:
            return
        for option, then in self._checkpoint[SETTINGS]["classes"].items():
            now = self._given["classes"][option]
            if now != then:
                raise UserError(
                    f"{option} is {now}, but was {then} in the training that is to go on, and the state of one is of "
                    f"no use to the other: give {then}, or start a new training from the weights alone "
                    "(--model.pretrained CHECKPOINT)"
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Apply the changed settings, or stop at once if the training is complete."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None:
            return
        now, then = self._given, checkpoint[SETTINGS]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            settings = now["callbacks"].get(callback.state_key, {})
            vars(callback).update(differing(settings, then["callbacks"].get(callback.state_key, settings)))
        for optimizer, new, old in zip(trainer.optimizers, now["optimizers"], then["optimizers"], strict=True):
            give_to_groups(optimizer, new, old)
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        # not strict: weight averaging may add a schedule of its own
        for schedule, new, old in zip(schedules, now["schedules"], then["schedules"], strict=False):
            groups = self._groups[trainer.optimizers.index(schedule.optimizer)]
            give_to_schedule(schedule, new, old, groups)
        # a larger limit, or a changed or removed callback, lets a stopped training continue
        if checkpoint[STOPPED] and then["limits"] == now["limits"]:
            trainer.should_stop |= not differing(then["callbacks"], now["callbacks"])
        if trainer.should_stop:
            rank_zero_info("A callback has ended this training, and its settings are what they were: it is complete.")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the settings, and whether a callback has stopped the training."""
        checkpoint[SETTINGS] = self._given
        # RunCheckpoint sets should_stop at max_steps too, which is not a callback's decision to stop
        checkpoint[STOPPED] = bool(trainer.should_stop) and not 0 <= trainer.max_steps <= trainer.global_step


def acts_on_training(callback: L.Callback) -> bool:
    """Whether a callback may influence training, rather than only display or save it."""
    shows = isinstance(callback, Checkpoint | ProgressBar | ModelSummary)
    return not shows and not type(callback).__module__.startswith("metalit.")


def settings_of(callback: L.Callback) -> Settings:
    """Return the attributes of a callback that are named like constructor arguments and have plain values."""
    # Lightning's callbacks keep some arguments under the same name, others with an underscore before it
    names = [name for given in inspect.signature(type(callback)).parameters for name in (given, f"_{given}")]
    # the callback itself, which is not plain, stands for an attribute that does not exist
    return {name: vars(callback)[name] for name in names if is_plain(vars(callback).get(name, callback))}


def is_plain(value: Any) -> bool:
    """Whether a value can be stored in a checkpoint and compared."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def without_parameters(group: Settings) -> Settings:
    """Return the hyper-parameters of a parameter group."""
    return {
        name: value.item() if isinstance(value, Tensor) else value for name, value in group.items() if name != "params"
    }


def base_rate_in(group: Settings) -> Settings:
    """Return hyper-parameters with the learning rate that was given, before a schedule changed it."""
    # a schedule keeps the given rate as initial_lr, and has set its own first rate as lr
    others = {name: value for name, value in group.items() if name != "initial_lr"}
    return {**others, "lr": group.get("initial_lr", group["lr"])}


def class_names(objects: Sequence[Any]) -> list[str]:
    """Return the class names of schedules or optimisers, including those inside a ``JointOptimizer``."""
    return [type(each).__name__ for one in objects for each in getattr(one, "optimizers", [one])]


def differing(now: Settings, then: Settings) -> Settings:
    """Return the entries of ``now`` that are missing or different in ``then``."""
    return {name: value for name, value in now.items() if name not in then or then[name] != value}


def give_to_groups(optimizer: Optimizer, now: Sequence[Settings], then: Sequence[Settings]) -> None:
    """Apply changed hyper-parameters to an optimiser; a reduced learning rate stays reduced by the same factor."""
    for group, new, old in zip(optimizer.param_groups, now, then, strict=True):
        changed = differing(new, old)
        # the current rate differs from the given one if a schedule has changed it
        if "lr" in changed and old["lr"] and float(group["lr"]) != old["lr"]:
            changed["lr"] = float(group["lr"]) * new["lr"] / old["lr"]
        for name, value in changed.items():
            if isinstance(group.get(name), Tensor):
                group[name].fill_(value)
            else:
                group[name] = value


def give_to_schedule(schedule: Any, now: Settings, then: Settings, groups: Sequence[Settings]) -> None:
    """Apply changed settings to a restored schedule, given its initial states now and then and initial groups now."""
    changed = differing(now, then)
    if isinstance(schedule, ReduceLROnPlateau):  # its history is that of a metric, which cannot be replayed
        vars(schedule).update(changed)
    elif changed:
        # replay all steps from the initial state; most schedules compute a rate from the one before
        steps = steps_of(schedule)
        schedule.load_state_dict(deepcopy(now))
        for group, new in zip(schedule.optimizer.param_groups, groups, strict=True):
            group.update(new)
        with warnings.catch_warnings(action="ignore"):  # torch warns if no optimiser step comes between them
            for _ in range(steps):
                schedule.step()


def steps_of(schedule: Any) -> int:
    """Return the number of steps a schedule has taken; for chained schedules, that of the first."""
    return int(vars(schedule)["last_epoch"]) if "last_epoch" in vars(schedule) else steps_of(schedule._schedulers[0])
