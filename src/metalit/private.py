"""Every private name of Python, Lightning, jsonargparse and argparse that metalit uses, and its purpose.

But three of the parsers are in ``options.py``, which loads no Lightning.

A private name may disappear with the library's next release. ``tests/test_private.py`` then says which one is gone,
and only this file has to change.
"""

import argparse
import pickle
import signal
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.loggers.logger import _DummyExperiment
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector

from metalit.options import type_of

# the unpickler written in Python, whose table of operations can be changed
PythonUnpickler: Any = pickle._Unpickler
NoExperiment = _DummyExperiment  # accepts any call; stands in for ``logger.experiment`` when there is none


# Lightning: the training loop

CURRENT_HOOK = "_current_fx_name"  # the attribute in which Lightning notes which hook of a module is running


def has_trainer(module: L.LightningModule) -> bool:
    """Whether a trainer has taken charge of a module; its public ``trainer`` raises an error without one."""
    return module._trainer is not None


def accumulates(trainer: L.Trainer) -> bool:
    """Whether the current batch only accumulates its gradient, without an optimiser step after it."""
    # a checkpoint saved between two such batches would lose the accumulated gradient
    return trainer.fit_loop._should_accumulate()


def skips_backward(trainer: L.Trainer) -> bool:
    """Whether this is the extra epoch in which ``StochasticWeightAveraging`` recomputes batch-norm statistics."""
    return trainer.fit_loop._skip_backward


def set_logged_steps(trainer: L.Trainer, steps: int) -> None:
    """Set the step count that loggers use, which some of Lightning's checkpoints store one step too low."""
    trainer.fit_loop.epoch_loop._batches_that_stepped = steps


def set_validated(trainer: L.Trainer) -> None:
    """Mark the epoch's validation as done; otherwise Lightning trains on one more batch after a resume."""
    trainer.fit_loop.epoch_loop.val_loop._has_run = True


def validation_follows(trainer: L.Trainer) -> bool:
    """Whether Lightning validates after the last trained batch."""
    fetcher = trainer.fit_loop._data_fetcher  # None until fit has set up its data
    return fetcher is not None and trainer.fit_loop.epoch_loop._should_check_val_fx(fetcher)


class HookedSignals(_SignalConnector):
    """Lightning's signal handlers, with names for what others put in their place."""

    def replace_handlers(self, numbers: Sequence[signal.Signals], handler: Callable[..., None]) -> None:
        """Install one handler for some signals; ``teardown`` restores the previous ones."""
        self._original_handlers = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            self._register_signal(number, handler)


def set_signals(trainer: L.Trainer, signals: HookedSignals) -> None:
    """Replace what installs the signal handlers of a trainer."""
    trainer._signal_connector = signals


# Lightning: the command line and the W&B logger


class OpenCLI(LightningCLI):
    """Lightning's command line, with public names for some of its private methods."""

    def made(self, key: str) -> Any:
        """Return the object that was instantiated from an option."""
        return self._get(self.config_init, key)

    def parser_of(self, command: str | None) -> LightningArgumentParser:
        """Return the parser of a command."""
        return self._parser(command)

    def run_command(self, command: str) -> None:
        """Run a command of the trainer."""
        super()._run_subcommand(command)

    def _run_subcommand(self, subcommand: str) -> None:
        self.run_command(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Do nothing: Lightning would overwrite every model option with the checkpoint's."""


class OpenWandbLogger(WandbLogger):
    """Lightning's W&B logger, with public names for some of its private attributes."""

    run_id: Any = property(lambda self: self._id, lambda self, value: setattr(self, "_id", value))
    folder: Any = property(lambda self: self._save_dir, lambda self, value: setattr(self, "_save_dir", value))
    run: Any = property(lambda self: self._experiment, lambda self, value: setattr(self, "_experiment", value))

    def __getstate__(self) -> dict[str, Any]:
        """Return the logger without the open W&B run, which another process cannot share and opens for itself."""
        return {**self.__dict__, "_experiment": None}


# argparse and jsonargparse


class HookedParser(LightningArgumentParser):
    """Lightning's parser, with two hooks that jsonargparse does not offer."""

    def prepare_parameter(self, param: Any) -> None:
        """Modify the description of a parameter before it becomes an option."""

    def check_value(self, option: argparse.Action, value: Any, key: str) -> Any:
        """Check an option's value, or return a replacement for it, before jsonargparse checks it."""
        return value

    def _add_signature_parameter(
        self, container: Any, nested_key: str | None, param: Any, *args: Any, **kwargs: Any
    ) -> None:
        self.prepare_parameter(param)
        super()._add_signature_parameter(container, nested_key, param, *args, **kwargs)

    def _check_value_key(
        self, action: argparse.Action, value: Any, key: str, cfg: Namespace | None, append: bool = False
    ) -> Any:
        value = self.check_value(action, value, key)
        # jsonargparse itself accepts null for options of every type
        if value is None and type_of(action) is not None and action.default is not None:
            return action._check_type_(value, cfg=cfg, append=append, mode=self.parser_mode)  # type: ignore[attr-defined]
        return super()._check_value_key(action, value, key, cfg, append)
