"""Options win over the checkpoint: a resumed training takes up the states, and keeps the settings it was given."""

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

SETTINGS, STOPPED = "settings", "stopped"  # in a checkpoint
Settings = dict[str, Any]


class GivenSettings(L.Callback):
    """Keeps in a checkpoint what optimiser, schedule and callbacks were made with, so that options win over it.

    Their states hold settings beside what training has made of them: a learning rate, a decay, a patience. When
    training is resumed, a setting that differs from what was given then is put back; everything else is as the
    checkpoint says. A schedule with another setting goes on as if it had been so from the beginning.

    A checkpoint also says whether a callback has stopped the training. Such a training is at its end when it is
    resumed, unless the callbacks or the limits of the training are different now.

    It comes before other callbacks, which may change their settings when training starts.
    """

    def __init__(self) -> None:
        self._given: Settings = {}
        self._groups: list[list[Settings]] = []
        self._checkpoint: Settings | None = None

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Note what the callbacks were made with."""
        if not self._given:
            limits = [trainer.max_steps, trainer.max_epochs, trainer.min_steps, trainer.min_epochs]
            callbacks = trainer.callbacks  # type: ignore[attr-defined]  # set by one of its connectors
            settings = {each.state_key: settings_of(each) for each in callbacks if acts_on_training(each)}
            self._given = {"callbacks": settings, "limits": limits}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Keep what was given then; an older checkpoint does not say."""
        if SETTINGS in checkpoint:
            self._checkpoint = {key: checkpoint[key] for key in (SETTINGS, STOPPED)}

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note what optimisers and schedules were made with, before they take up a state.

        Raises:
            ValueError: the checkpoint is of other optimisers or schedules.
        """
        self._groups = [[without_parameters(group) for group in each.param_groups] for each in trainer.optimizers]
        self._given["optimizers"] = [[base_rate_in(group) for group in groups] for groups in self._groups]
        schedules = [config.scheduler for config in trainer.lr_scheduler_configs]
        self._given["schedules"] = [deepcopy(each.state_dict()) for each in schedules]
        self._given["classes"] = {
            "optimizer": " and ".join(class_names(trainer.optimizers)),
            "lr_scheduler": " and ".join(class_names(schedules)) or "null",
        }
        if self._checkpoint is not None:
            check_classes(self._given["classes"], self._checkpoint[SETTINGS]["classes"])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Put back what is given differently now, or stop at once if there is nothing left to do."""
        checkpoint, self._checkpoint = self._checkpoint, None
        if checkpoint is None:
            return
        now, then = self._given, checkpoint[SETTINGS]
        for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by one of its connectors
            settings = now["callbacks"].get(callback.state_key, {})
            vars(callback).update(differing(settings, then["callbacks"].get(callback.state_key, settings)))
        for optimizer, new, old in zip(trainer.optimizers, now["optimizers"], then["optimizers"], strict=True):
            give_to_groups(optimizer, new, old)
        for config, new, old in zip(
            trainer.lr_scheduler_configs, now["schedules"], then["schedules"], strict=False
        ):  # weight averaging has a schedule of its own
            groups = self._groups[trainer.optimizers.index(config.scheduler.optimizer)]
            give_to_schedule(config.scheduler, new, old, groups)
        if checkpoint[STOPPED] and then["limits"] == now["limits"]:
            trainer.should_stop |= not differing(then["callbacks"], now["callbacks"])
        if trainer.should_stop:
            rank_zero_info("A callback has ended this training, and its settings are what they were: it is complete.")

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put into the checkpoint what was given, and whether a callback has stopped the training."""
        checkpoint[SETTINGS] = self._given
        checkpoint[STOPPED] = bool(trainer.should_stop) and not 0 <= trainer.max_steps <= trainer.global_step


def acts_on_training(callback: L.Callback) -> bool:
    """Whether a callback may decide how training goes on, rather than show or save it."""
    shows = isinstance(callback, Checkpoint | ProgressBar | ModelSummary)
    return not shows and not type(callback).__module__.startswith("metalit.")


def settings_of(callback: L.Callback) -> Settings:
    """Return the attributes of a callback that its constructor has an argument for, as far as they are plain values."""
    names = [name for given in inspect.signature(type(callback)).parameters for name in (given, f"_{given}")]
    return {name: vars(callback)[name] for name in names if is_plain(vars(callback).get(name, callback))}


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold a value and it can be compared."""
    if isinstance(value, list | tuple):
        return all(map(is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def without_parameters(group: Settings) -> Settings:
    """Return the hyper-parameters of a group of parameters."""
    return {
        name: value.item() if isinstance(value, Tensor) else value for name, value in group.items() if name != "params"
    }


def base_rate_in(group: Settings) -> Settings:
    """Return hyper-parameters with the learning rate as it was given, before the first step of a schedule."""
    return {name: value for name, value in group.items() if name != "initial_lr"} | {
        "lr": group.get("initial_lr", group["lr"])
    }


def class_names(objects: Sequence[Any]) -> list[str]:
    """Return the names of the classes of optimisers, those within a ``JointOptimizer`` too, or of schedules."""
    return [type(each).__name__ for one in objects for each in getattr(one, "optimizers", [one])]


def check_classes(now: dict[str, str], then: dict[str, str]) -> None:
    """Refuse to go on with an optimiser or a schedule of another class than before.

    Raises:
        ValueError: with both classes.
    """
    for option, name in now.items():
        if name != then[option]:
            raise UserError(
                f"{option} is {name}, but was {then[option]} in the training that is to go on, and the state of one "
                f"is of no use to the other: give {then[option]}, or start a new training from the weights alone "
                "(--model.pretrained CHECKPOINT)"
            )


def differing(now: Settings, then: Settings) -> Settings:
    """Return the entries of ``now`` that are not the same in ``then``."""
    return {name: value for name, value in now.items() if name not in then or then[name] != value}


def give_to_groups(optimizer: Optimizer, now: Sequence[Settings], then: Sequence[Settings]) -> None:
    """Put changed hyper-parameters into an optimiser; a learning rate that was reduced stays so, in proportion."""
    for group, new, old in zip(optimizer.param_groups, now, then, strict=True):
        changed = differing(new, old)
        if "lr" in changed and old["lr"] and float(group["lr"]) != old["lr"]:
            changed["lr"] = float(group["lr"]) * new["lr"] / old["lr"]
        for name, value in changed.items():
            if isinstance(group.get(name), Tensor):
                group[name].fill_(value)
            else:
                group[name] = value


def give_to_schedule(schedule: Any, now: Settings, then: Settings, groups: Sequence[Settings]) -> None:
    """Put changed settings into a schedule that has taken up its state.

    Args:
        schedule: of a learning rate.
        now: its state when it was made with the settings of now.
        then: its state when it was made with the settings of then.
        groups: the hyper-parameters of its optimiser when it was made.
    """
    changed = differing(now, then)
    if isinstance(schedule, ReduceLROnPlateau):
        vars(schedule).update(changed)
    elif changed:
        steps = steps_of(schedule)
        schedule.load_state_dict(deepcopy(now))
        for group, new in zip(schedule.optimizer.param_groups, groups, strict=True):
            group.update(new)
        with warnings.catch_warnings(action="ignore"):  # there is no step of the optimiser between them
            for _ in range(steps):
                schedule.step()


def steps_of(schedule: Any) -> int:
    """Return how many steps a schedule has taken, or the first of several that are chained."""
    return int(vars(schedule)["last_epoch"]) if "last_epoch" in vars(schedule) else steps_of(schedule._schedulers[0])
