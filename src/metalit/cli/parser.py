"""The parser of options: full names only, every value checked, mistakes in one sentence, help of readable length."""

import argparse
import math
import sys
from collections.abc import Collection
from functools import partial
from inspect import Parameter
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from metalit.algorithms import MetaLearner
from metalit.cli.errors import ParsingError, explain, make
from metalit.cli.factories import accept_factories, check_made, import_problem, paths
from metalit.cli.values import any_of, classes_in, describe_values, known_classes, subclasses
from metalit.data import EpisodicDataModule
from metalit.private import HookedParser, commands_of, options_of, type_of

CKPT_PATH_HELP = (
    "A checkpoint file; or best or last, the run folder's own. A training goes on from it, and from the beginning if "
    "last does not exist yet."
)

# Lightning divides by the trainer's without a look, and NumPy knows no negative seed
LEAST = {
    "seed_everything": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_nodes": 1,
}


class ArgumentParser(HookedParser):
    """See the module.

    Attributes:
        help_of: the group whose options the help lists, such as ``trainer``; if None, all but the trainer's.
    """

    help_of: str | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Return the help, short enough to find metalit's own options in it."""

        def is_hidden(option: argparse.Action) -> bool:
            group = option.dest.partition(".")[0]
            return group == "trainer" if self.help_of is None else group != self.help_of

        hidden = [option for option in options_of(self) if is_hidden(option)]
        texts, usage = [option.help for option in hidden], self.usage
        for option in hidden:
            option.help = argparse.SUPPRESS
        if any(option.dest == "config" for option in options_of(self)) and not any(commands_of(self)):
            self.usage = "%(prog)s --config FILE [--data.ways 20 ...]"
        try:
            return str(super().format_help(formatter))
        finally:
            self.usage = usage
            for option, text in zip(hidden, texts, strict=True):
                option.help = text

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Explain the mistake and exit with code 2; a parser of a class tells the parser around it instead."""
        if not self.exit_on_error:
            raise ParsingError(message, self) from ex
        fail(explain(message, ex, self))

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's options; where any network fits, name metalit's in the help and not the 700 that are loaded."""
        added = super().add_class_arguments(*args, **kwargs)
        for action in options_of(self):
            if takes_network(action):
                action.extra_help = partial(name_networks, action)  # type: ignore[attr-defined]
        return list(added)

    def add_function_arguments(
        self, *args: Any, linked_targets: Collection[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add a function's options; jsonargparse names targets of links too, which its own method does not take."""
        return list(super().add_function_arguments(*args, **kwargs))

    def prepare_parameter(self, param: Any) -> None:
        """Have a parameter without a type or a default be required, and take any value."""
        if param.annotation is Parameter.empty and param.default is Parameter.empty:
            param.annotation = Any

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a command's options, without what Lightning has in it for its cloud and for a second table of results."""
        added = super().add_method_arguments(*args, **kwargs)
        for action in options_of(self):
            if action.dest == "ckpt_path":
                action.help = CKPT_PATH_HELP
        if "verbose" in added:
            self.set_defaults(verbose=False)
        return list(added)

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Make what the options name, and see that each network is one.

        What makes an object later becomes a ``partial`` that does not hold the parser.
        """
        kwargs.setdefault("instantiators", [(make, object, True)])
        made: Namespace = super().instantiate(namespace, *args, **kwargs)
        for action in filter(takes_network, options_of(self)):
            if isinstance(settings := namespace.get(action.dest), Namespace):
                check_made(settings.class_path, made[action.dest])
        for key, value in vars(made).items():
            made[key] = without_parser(value)
        return made

    def check_value(self, option: argparse.Action, value: Any, key: str) -> Any:
        """Check numbers and null too, and what stands for a whole group: jsonargparse takes them whatever they are."""
        is_of_classes = any(classes_in(type_of(option)))
        for path in paths(value) if is_of_classes else ():
            if (reason := import_problem(path)) is not None:
                raise TypeError(f'Parser key "{key}": {reason}')
        if takes_network(option):
            try:
                accept_factories(value)
            except TypeError as error:
                raise TypeError(f'Parser key "{key}": {error}') from None
        value = with_path_of_own(option, value)
        for each in value if isinstance(value, list) else [value]:
            if problem := unusable(each, LEAST.get(key)):
                raise TypeError(f'Parser key "{key}": {problem}')
            if isinstance(each, dict | Namespace) and not isinstance(path := each.get("class_path", ""), str):
                found = "null" if path is None else path
                raise TypeError(f'Parser key "{key}.class_path": found {found}, expected {describe_values(option)}')
        is_settings = isinstance(value, dict | Namespace | str) or (value is None and type_of(option) is not None)
        if key in (self.groups or {}) and not is_settings:
            raise TypeError(f'Parser key "{key}": Expected settings. Got value: {value!r}')
        return value


def without_parser(value: Any) -> Any:
    """Return jsonargparse's ``partial`` of a class as one of the class alone, which can be copied and pickled."""
    if isinstance(value, partial) and value.func.__module__.startswith("jsonargparse."):
        _, cls = value.args
        return partial(cls, **value.keywords)
    return value


def with_path_of_own(action: argparse.Action, value: Any) -> Any:
    """Give the path of metalit's own class where several have the name that a value has, or its ``class_path``."""
    name = value.get("class_path") if isinstance(value, dict | Namespace) else value
    hint = type_of(action)
    if not isinstance(name, str) or not name.isidentifier() or hint is None:
        return value
    found = {cls for base in set(classes_in(hint)) for cls in subclasses(base) if cls.__name__ == name}
    own = [cls for cls in found if cls.__module__.startswith("metalit.")]
    if len(found) < 2 or len(own) != 1:
        return value
    path = f"{own[0].__module__}.{name}"
    if not isinstance(value, str):
        value["class_path"] = path
        return value
    return path


def unusable(value: Any, least: int | None) -> str | None:
    """Say what is wrong with a number that no option can use, or that is below the least an option can."""
    if isinstance(value, float) and math.isnan(value):
        return "found nan, expected a number"
    if not isinstance(value, int):
        return None
    if not -(2**63) <= value < 2**64:
        return f"found {value}, which takes more than 64 bits"
    return None if least is None or value >= least else f"found {value}, expected at least {least}"


def add_links(parser: LightningArgumentParser) -> None:
    """Have the ways of the model and of its network follow those of the data."""
    parser.link_arguments("data.init_args.ways", "model.init_args.network.init_args.ways")
    parser.link_arguments("data.init_args.ways", "model.init_args.ways")


def model_and_data_parser() -> ArgumentParser:
    """Return a parser of a model and its data alone, which raises ``ParsingError`` after a mistake."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(MetaLearner, "model", subclass_mode=True)
    parser.add_lightning_class_args(EpisodicDataModule, "data", subclass_mode=True)
    add_links(parser)
    return parser


def takes_network(action: argparse.Action) -> bool:
    """Whether an option's value is a network."""
    return nn.Module in classes_in(type_of(action))


def name_networks(action: argparse.Action) -> str:
    """Say which networks an option takes."""
    return f", any network: {any_of([*known_classes(action), 'your own'])}"


def fail(message: str) -> NoReturn:
    """Print one message, on one line, and exit with code 2."""
    sys.stderr.write(f"error: {' '.join(message.split())}\n")
    raise SystemExit(2)
