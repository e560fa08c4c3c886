"""One sentence for a mistake in options: the key, what was found, what is expected, and the nearest valid name.

jsonargparse nests one message per class and per alternative of a type. Its exceptions are chained from the outermost
(``model``) to the innermost (``Expected a <class 'int'>. Got value: five``). The chain gives the path to the key; its
end says what is wrong there.
"""

import argparse
import ast
import re
from collections.abc import Iterable, Iterator
from inspect import signature
from itertools import pairwise
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from metalit.cli.config_files import PARTS_OF_A_CLASS, ConfigFile, beside_class, full_name, place
from metalit.cli.values import any_of, describe_values, known_classes, nearest
from metalit.options import commands_of, options_of

MOST_OPTIONS = 15  # a longer list is replaced by a pointer to --help
KEY = r"Parser key \"([^\"]+)\"|--(\S+)\.help: "
CLASS_PATH = r"given class_path '([^']+)'|value: (?:Namespace\(|\{')class_path(?:=|': )'([^']+)'"
UNKNOWN_OPTION = (
    r"unrecognized arguments: --([^\s=]+)|"
    r"(?:Group '(.+)' does not accept o|Subcommand '.+' does not accept o|O)ption '(.+)'"
)
VALUE = r"(?:Got|Given) value: (.*?)(?:\n|$)|Unable to load config \"(.*)\""


class ParsingError(argparse.ArgumentError):
    """A mistake that the parser of a class reports to the parser around it."""

    def __init__(self, message: str, parser: argparse.ArgumentParser) -> None:
        super().__init__(None, message)
        self.parser = parser


class Mistake:
    """The end of a chain of exceptions, and the path to it; ``parser`` raised the outermost."""

    def __init__(self, message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> None:
        self.keys: list[str] = []  # the options on the path, outermost first: ["model", "network"]
        self.parser = parser  # of the innermost class, or of the command
        self.class_path = ""  # of that class; empty for a command
        self.action: argparse.Action | None = None  # the innermost option
        self.text = message  # of the last exception
        self.value: str | None = None  # the repr or the text of the value found, if the innermost parser names it
        self.files = config_files(parser)
        for cause in causes(error):
            # str() of a KeyError is the repr of its message, in quotes.
            self.text = str(cause.args[0]) if isinstance(cause, KeyError) else str(cause)
            self.parser = getattr(cause, "parser", None) or getattr(cause, "subcommand_parser", None) or self.parser
            # Each parser names one option, and other exceptions repeat that name.
            if cause is error or isinstance(cause, ParsingError):
                self.value = None
                if name := first_group(re.match(KEY, self.text)):
                    self.keys.append(name)
                    self.action = option_named(self.parser, name)
            self.class_path = first_group(re.search(CLASS_PATH, self.text)) or self.class_path
            found = found_value(self.text)
            self.value = self.value if found is None else found

    def key(self, *more: str) -> str:
        """Return the dotted name of the option, or of one below it."""
        return ".".join([*self.keys, *more])

    def owner(self) -> str:
        """Return the name of the class or the command that has the option."""
        return self.class_path.rpartition(".")[2] or self.parser.prog.split()[-1]

    def expected(self) -> str:
        """Return the values that the option takes."""
        return f"expected {describe_values(self.action)}"


def explain(message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> str:
    """Return one sentence for a parser's complaint: jsonargparse's message, and the exception behind it, if any."""
    mistake = Mistake(message, error, parser)
    key, sentence = explain_end(mistake)
    return f"{key}: {sentence}{location(parser, key, mistake.value)}"


def location(parser: argparse.ArgumentParser, key: str, value: str | None = None) -> str:
    """Return `` (FILE, line N)``, where an option stands in a file and has the value found; else an empty string."""
    # An option on the command line overrides the files, so a line number would point to the wrong value.
    return "" if is_argument(parser, key) else place(config_files(parser), key, value)


def config_files(parser: argparse.ArgumentParser) -> dict[str, Path]:
    """Return the configuration files that a parser and the parsers of its commands have read, by name."""
    options = [option for each in (parser, *commands_of(parser)) for option in options_of(each)]
    found = [option.files for option in options if isinstance(option, ConfigFile)]
    return {name: path for files in found for name, path in files.items()}


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def first_group(match: re.Match[str] | None) -> str | None:
    """Return the first group that has matched, or None."""
    return None if match is None else next((group for group in match.groups() if group is not None), None)


def option_named(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    """Return a parser's option by name, or None."""
    return next((action for action in options_of(parser) if action.dest == name), None)


def found_value(text: str) -> str | None:
    """Return the value at the end of a message of jsonargparse, or None if it has none."""
    found = first_group(re.search(VALUE, text))
    # jsonargparse wraps an option of the command line that is nested in a class; users know only its value.
    if found and (nested := re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", found)):
        found = str(literal(nested[1]))
    return "null" if found == "None" else found  # as YAML writes it


def literal(text: str) -> Any:
    """Return the value whose ``repr`` is given, or the text itself if it is none."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def explain_end(mistake: Mistake) -> tuple[str, str]:
    """Return the option that a mistake is about, and what is wrong with it."""
    key, text = mistake.key(), mistake.text
    # names
    if match := re.match(r"Spaces not allowed in keys: \"(.+)\"", text):
        # jsonargparse's message has only the last part of the name.
        return full_name(mistake.files, match[1]), "there is no such option: names have no spaces"
    if match := re.match(r"unrecognized arguments: (?!--)(\S+)", text):
        return match[1], "is neither an option (--name VALUE) nor the value of one"
    if match := re.match(UNKNOWN_OPTION, text):
        return unknown_option(mistake, ".".join(part for part in match.groups() if part))
    if match := re.match(r"the following arguments are required: (.*)", text):
        return missing_option(mistake, match[1].split(", "))
    # classes
    if text.startswith("Not a valid subclass of") and isinstance(literal(mistake.value or ""), dict):
        return no_class_path(mistake)
    if match := re.match(r"module '(.+)' has no attribute '(.+)'", text):
        return key, unknown_class(mistake, match[2], f"{match[1]}.")
    if match := re.match(r"Expected a dot import path string: (\S*)", text):
        return key, unknown_class(mistake, match[1])
    if match := re.match(r"No module named '(.+)'", text):
        # If no message has the whole path, class_path is that of a class around this one.
        is_whole = mistake.class_path.startswith(f"{match[1]}.")
        return key, unknown_class(mistake, mistake.class_path if is_whole else match[1])
    if match := re.match(r"Expected an instantiatable class, but (\S+) is abstract", text):
        return key, f"{match[1]} is an abstract class; {mistake.expected()}"
    if match := re.match(r"Import path (\S+) does not correspond to|Expected '([^']+)' to be .*subclass of", text):
        return key, f"{match[1] or match[2]} is another kind of class; {mistake.expected()}"
    # argparse's own complaints about the command line
    if match := re.match(r"expected \"subcommand\" to be one of \{(.*)\}", text):
        return "command", f"not given; expected {any_of(match[1].split(','))}, then --config FILE"
    if match := re.match(r"argument subcommand: invalid choice: '(.+)' \(choose from (.*)\)", text):
        commands = re.findall(r"\w+", match[2])
        near = nearest(match[1], commands)
        return match[1], "no such command; " + (f"did you mean {near}?" if near else f"there are {any_of(commands)}")
    if match := re.match(r"argument (?:-\w/)?--(\S+): expected", text):
        return bare_option(mistake.parser, match[1]), "a value must follow"
    if match := re.match(r"Namespace\(class_path='([^']+)'", mistake.value or ""):
        # A class named on the command line without its options: jsonargparse does not say which of them it needs.
        needed = [
            name for name, each in signature(resolve_name(match[1])).parameters.items() if each.default is each.empty
        ]
        if needed:
            return f"{key}.{needed[0]}", f"not given, but {match[1].rpartition('.')[2]} needs it"
    # values; what is left is jsonargparse's in its own words
    if key and mistake.value is not None:
        return key, f"found {mistake.value}, {mistake.expected()}"
    return key or "options", " ".join(re.sub(r"^Parser key \"[^\"]+\":", "", text).split())


def unknown_option(mistake: Mistake, name: str) -> tuple[str, str]:
    """Explain an option that does not exist."""
    known = [action.dest for action in options_of(mistake.parser) if is_setting(action)]
    # A parser without options is that of a base class: the class_path is missing, so no name could be right.
    if not known:
        return no_class_path(mistake)
    unknown = first_unknown(name.replace("init_args.", ""), known)
    if near := nearest_option(unknown, known):
        hint = f"did you mean {mistake.key(near)}?"
    elif len(known) <= MOST_OPTIONS:
        hint = f"there are {', '.join(known)}"
    else:
        hint = f"see {mistake.parser.prog.replace(' [options]', '')} --help"
    return mistake.key(unknown), f"{mistake.owner()} has no such option; {hint}"


def is_setting(action: argparse.Action) -> bool:
    """Whether an option belongs in a configuration file, unlike ``--help``, ``--config`` and ``--print_config``."""
    return not re.search(r"(^|\.)help$|^config$|^print_|^subcommand$", action.dest)


def nearest_option(unknown: str, known: Iterable[str]) -> str | None:
    """Return the option of the same name in another group, else the most similar one."""
    elsewhere = [name for name in known if name.endswith("." + unknown.rpartition(".")[2])]
    return elsewhere[0] if elsewhere else nearest(unknown, [n for n in known if not unknown.startswith(n + ".")])


def first_unknown(key: str, options: Iterable[str]) -> str:
    """Return the shortest prefix of a dotted key that no option has: ``modle`` of ``modle.inner_steps``."""
    parts = key.split(".")
    beginnings = [".".join(parts[:length]) for length in range(1, len(parts))]
    return next((b for b in beginnings if not any(f"{option}.".startswith(f"{b}.") for option in options)), key)


def missing_option(mistake: Mistake, names: list[str]) -> tuple[str, str]:
    """Explain required options that were not given."""
    if mistake.keys:
        values = describe_values(option_named(mistake.parser, names[0]))
        return mistake.key(names[0]), f"not given, but {mistake.owner()} needs it; expected {values}"
    # At the top level these are model and data, which a configuration file names.
    names = [name.rpartition(".")[2] for name in names]
    options = " and ".join(f"--{name} CLASS" for name in names)
    return " and ".join(names), f"not given; use --config FILE, such as metalit:omniglot/maml, or {options}"


def no_class_path(mistake: Mistake) -> tuple[str, str]:
    """Explain settings of a class that lack ``class_path``, or stand beside it instead of under ``init_args``."""
    value = literal(mistake.value or "")
    if isinstance(value, dict) and "class_path" in value:
        extra = next(name for name in value if name not in PARTS_OF_A_CLASS)
        return mistake.key(extra), beside_class(extra)
    return mistake.key(), f"has no class_path; {mistake.expected()}"


def unknown_class(mistake: Mistake, path: str, module: str = "") -> str:
    """Explain a class that does not exist, in a module (``torch.optim.``) if that does."""
    near = nearest(path.rpartition(".")[2], known_classes(mistake.action))
    hint = f"did you mean {module}{near}?" if near else mistake.expected()
    return f"there is no class {module}{path or repr(path)}; {hint}"


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Return the command line that was given to a parser, or to the parser of all commands around it."""
    return list(getattr(getattr(parser, "parent_parser", parser), "args", None) or [])


def is_argument(parser: argparse.ArgumentParser, key: str) -> bool:
    """Whether an option was given on the command line."""
    names = [argument.removeprefix("--").partition("=")[0] for argument in arguments(parser)]
    # jsonargparse accepts the path with and without init_args. --model MAML sets model.class_path.
    given = {name.replace("init_args.", "").removesuffix(".help") for name in names}
    return key.removesuffix(".class_path") in given


def bare_option(parser: argparse.ArgumentParser, name: str) -> str:
    """Return the option without a value whose name argparse shortens to ``name``: ``model.x`` for ``model``."""
    pairs = pairwise([*arguments(parser), "--"])
    bare = [word[2:] for word, after in pairs if f"{word}.".startswith(f"--{name}.") and after.startswith("--")]
    return bare[0] if bare else name
