"""The option parser: full names only, every value checked, one-sentence mistakes, help of readable length."""

import argparse
import math
from collections.abc import Collection
from functools import partial
from inspect import Parameter
from typing import Any, NoReturn

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from metalit.algorithms import MetaLearner
from metalit.cli.config_files import refusal
from metalit.cli.errors import FOLLOWING, in_file, make, set_owner
from metalit.cli.factories import accept_factory, check_made, paths, resolve
from metalit.cli.failures import fail
from metalit.cli.mistakes import ParsingError, explain
from metalit.cli.sizes import fill_in, unknown_sizes
from metalit.cli.values import any_of, classes_in, describe_values, known_classes, nearest, subclasses
from metalit.data import EpisodicDataModule
from metalit.options import commands_of, options_of, type_of
from metalit.private import HookedParser

CKPT_PATH_HELP = (
    "A checkpoint file; or best or last, the run folder's own. A training goes on from it, and from the beginning if "
    "last does not exist yet."
)

# Lightning divides by these settings of the trainer without a check, and NumPy accepts no negative seed.
LEAST = {
    "seed_everything": 0,
    "trainer.accumulate_grad_batches": 1,
    "trainer.check_val_every_n_epoch": 1,
    "trainer.num_nodes": 1,
}


class ArgumentParser(HookedParser):
    """Lightning's parser without abbreviations, with checks that jsonargparse lacks and with short messages and help.

    Attributes:
        help_of: the group whose options the help lists, such as ``trainer``; if None, all but the trainer's.
        data: the data module, if it was made before the model, which takes lengths from it.
    """

    help_of: str | None = None
    data: EpisodicDataModule | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # argparse accepts any unambiguous prefix of an option's name, so a truncated name would pass.
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def format_help(self, formatter: argparse.HelpFormatter | None = None) -> str:
        """Return the help, after which the program ends, short enough to find metalit's own options in it."""
        groups = {option.dest.partition(".")[0] for option in options_of(self) if "." in option.dest}
        if self.help_of is not None and self.help_of not in groups:
            near = nearest(self.help_of, groups)
            hint = f"did you mean {near}?" if near else f"there are {any_of(sorted(groups)) or 'some after a command'}"
            fail(f"help: there is no group of options {self.help_of}; {hint}")
        for option in options_of(self):
            group = option.dest.partition(".")[0]
            if group == "trainer" if self.help_of is None else group != self.help_of:
                option.help = argparse.SUPPRESS
        if any(option.dest == "config" for option in options_of(self)) and not any(commands_of(self)):
            self.usage = "%(prog)s --config FILE [--data.ways 20 ...]"
        return str(super().format_help(formatter))

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Explain the mistake and exit with code 2."""
        if not self.exit_on_error:  # the parser of a class leaves the explanation to the parser around it
            raise ParsingError(message, self) from ex
        fail(explain(message, ex, self))

    def add_class_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a class's options; where any network fits, the help lists metalit's and not all 700 that are loaded."""
        added = super().add_class_arguments(*args, **kwargs)
        for action in filter(takes_network, options_of(self)):
            action.extra_help = partial(name_networks, action)  # type: ignore[attr-defined]
        return list(added)

    def add_function_arguments(
        self, *args: Any, linked_targets: Collection[str] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add a function's options; drop ``linked_targets``, which jsonargparse passes but its own method rejects."""
        return list(super().add_function_arguments(*args, **kwargs))

    def prepare_parameter(self, param: Any) -> None:
        """Make a parameter with neither type nor default a required option that takes any value."""
        # jsonargparse would make it an option that defaults to null.
        if param.annotation is Parameter.empty and param.default is Parameter.empty:
            param.annotation = Any

    def add_method_arguments(self, *args: Any, **kwargs: Any) -> list[str]:
        """Add a command's options, with metalit's help for ``--ckpt_path`` and Lightning's table of results off."""
        added = super().add_method_arguments(*args, **kwargs)
        for action in options_of(self):
            if action.dest == "ckpt_path":
                action.help = CKPT_PATH_HELP
        if "verbose" in added:
            self.set_defaults(verbose=False)
        return list(added)

    def instantiate(self, namespace: Namespace, *args: Any, **kwargs: Any) -> Namespace:
        """Build the objects that the options name, and check that each network is one.

        An option that is built later becomes a ``partial`` that holds no reference to the parser.
        """
        self.fill_sizes(namespace)
        # For all classes: an error then carries the class that raised it, from which explain_error finds the key.
        kwargs.setdefault("instantiators", [*self.ready(), (make, object, True)])
        made: Namespace = super().instantiate(namespace, *args, **kwargs)
        for action in filter(takes_network, options_of(self)):
            if isinstance(settings := namespace.get(action.dest), Namespace):
                check_made(settings.class_path, made[action.dest])
        for key, value in vars(made).items():
            made[key] = without_parser(value)
        return made

    def fill_sizes(self, settings: Namespace) -> None:
        """Write lengths that networks take from the data into the settings; the data module is made for that."""
        if self.data is None and unknown_sizes(settings):
            alone = Namespace(data=settings.data.clone())  # type: ignore[no-untyped-call]
            made: Namespace = super().instantiate(alone, False, instantiators=[(make, object, True)])
            try:
                fill_in(settings, made.data)
            except Exception as error:
                set_owner(error, type(made.data))
                raise
            self.data = made.data

    def ready(self) -> list[tuple[Any, type, bool]]:
        """Return how the data module is made, if it is there already: it has read its files."""
        made = self.data
        return [] if made is None else [(lambda *_, **__: made, type(made), False)]

    def check_value(self, option: argparse.Action, value: Any, key: str) -> Any:
        """Refuse import paths, numbers, null and values of whole groups that jsonargparse accepts unchecked.

        Returns:
            The value; with the full path of metalit's own class if several loaded classes share its name.
        """
        try:
            # Before jsonargparse, which would report an error inside the user's module as a class that does not exist.
            for path in paths(value) if any(classes_in(type_of(option))) else ():
                found = resolve(path)
                if takes_network(option):
                    accept_factory(path, found)
            value = with_path_of_own(option, value)
            for each in value if isinstance(value, list) else [value]:
                check_number(each, LEAST.get(key))
                if is_settings(each) and not isinstance(path := each.get("class_path", ""), str):
                    found = "null" if path is None else path
                    raise refusal(f"{key}.class_path", f"found {found}, expected {describe_values(option)}")
        except ValueError as error:
            raise refusal(key, error) from None
        # A group of options, such as trainer or engine, has no type that jsonargparse could check.
        is_null = value is None and type_of(option) is not None
        if key in (self.groups or {}) and not (is_settings(value) or isinstance(value, str) or is_null):
            raise refusal(key, f"Expected settings. Got value: {value!r}")
        return value


def is_settings(value: Any) -> bool:
    """Whether a value is a group of settings."""
    return isinstance(value, dict | Namespace)


def without_parser(value: Any) -> Any:
    """Turn jsonargparse's ``partial`` of a class into one of the class alone, which can be copied and pickled."""
    if isinstance(value, partial) and value.func.__module__.startswith("jsonargparse."):
        # Positional arguments: jsonargparse's own state, which leads to the parser, and the class.
        _, cls = value.args
        return partial(cls, **value.keywords)
    return value


def with_path_of_own(action: argparse.Action, value: Any) -> Any:
    """Replace a bare class name that several loaded classes share, which jsonargparse refuses, by that of metalit's."""
    name = value.get("class_path") if is_settings(value) else value
    if not isinstance(name, str) or not name.isidentifier():
        return value
    found = {cls for base in set(classes_in(type_of(action))) for cls in subclasses(base) if cls.__name__ == name}
    own = [cls for cls in found if cls.__module__.startswith("metalit.")]
    if len(found) < 2 or len(own) != 1:
        return value
    path = f"{own[0].__module__}.{name}"
    if not is_settings(value):
        return path
    value["class_path"] = path
    return value


def check_number(value: Any, least: int | None) -> None:
    """Refuse, with a ``ValueError``, a number that no option can use, or that is below the option's minimum."""
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("found nan, expected a number")
    if not isinstance(value, int):
        return
    # Integers of YAML and Python have any size, those of torch and NumPy at most 64 bits.
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"found {value}, which takes more than 64 bits")
    if least is not None and value < least:
        raise ValueError(f"found {value}, expected at least {least}")


def add_links(parser: LightningArgumentParser) -> None:
    """Make the ways of the model and of its network follow those of the data."""
    # Memory-based learners have the argument too: they receive labels as a code of that length.
    for key, source in FOLLOWING.items():
        parser.link_arguments(in_file(source), in_file(key))


def parts_parser() -> ArgumentParser:
    """Return a parser of a model and a network of features; it raises ``ParsingError`` instead of exiting."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(MetaLearner, "model", subclass_mode=True)
    parser.add_argument("--features", type=nn.Module | None, default=None)
    return parser


def model_and_data_parser() -> ArgumentParser:
    """Return a parser of a model and its data alone; it raises ``ParsingError`` instead of exiting."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_lightning_class_args(MetaLearner, "model", subclass_mode=True)
    parser.add_lightning_class_args(EpisodicDataModule, "data", subclass_mode=True)
    add_links(parser)
    return parser


def takes_network(action: argparse.Action) -> bool:
    """Whether an option's value is a network."""
    return nn.Module in classes_in(type_of(action))


def name_networks(action: argparse.Action) -> str:
    """Return the part of an option's help that lists the networks it takes."""
    return f", any network: {any_of([*known_classes(action), 'your own'])}"
