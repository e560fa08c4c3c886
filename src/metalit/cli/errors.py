"""One sentence for a mistake in options: the key, what was found, what is expected, and the nearest valid name.

jsonargparse nests a message per class and per alternative of a type. Its exceptions are chained from the outermost
(``model``) to the innermost (``Expected a <class 'int'>. Got value: five``), so the chain gives the way to the key, and
its end what is wrong there.
"""

import argparse
import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from metalit.cli.config_files import ConfigFile, place
from metalit.cli.values import any_of, describe_values, known_classes, nearest

MOST_OPTIONS = 15  # a longer list helps nobody
UNTELLING = {"None", "True", "False", "0", "1"}  # values of many options
WRONG_CLASS = (
    r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'",
    r"No module named '(?P<module>[^']+)'",
    r"Expected a dot import path string: (?P<path>\S+)",
    r"Import path (?P<path>\S+) does not (?P<unfit>correspond to a subclass of)",
    r"Expected an instantiatable class, but (?P<path>\S+) is (?P<abstract>abstract)",
    r"Expected '(?P<path>[^']+)' to be .*(?P<unfit>subclass of)",
)


class ParsingError(argparse.ArgumentError):
    """What the parser of a class says to the parser around it."""

    def __init__(self, message: str, parser: argparse.ArgumentParser) -> None:
        super().__init__(None, message)
        self.parser = parser


class Mistake(NamedTuple):
    """Where a chain of exceptions leads.

    Attributes:
        keys: the options on the way, outermost first: ``("model", "network")``.
        parser: the parser of the innermost class, or of the command.
        owner: the name of that class or command.
        action: the innermost option.
        is_value: whether the mistake is in that option's value itself, not within the class that it names.
        text: what the last exception says.
        value: the ``repr`` or the text of what was found, if any exception says so.
    """

    keys: tuple[str, ...]
    parser: argparse.ArgumentParser
    owner: str
    action: argparse.Action | None
    is_value: bool
    text: str
    value: str | None

    def key(self, *more: str) -> str:
        """Return the option's full name."""
        return ".".join([*self.keys, *more])


def explain(message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> str:
    """Return one sentence for what a parser complains about, with the file and the line if it stands in one.

    Args:
        message: jsonargparse's message.
        error: the exception behind it.
        parser: the parser that complains.
    """
    mistake = read_chain(message, error, parser)
    explanations = (
        explain_unknown,
        explain_missing,
        explain_no_class,
        explain_class,
        explain_command,
        explain_value,
    )
    key, sentence = next(found for explanation in explanations if (found := explanation(mistake)))
    where = "" if is_argument(parser, key) else place(config_files(parser), key.split("."), mistake.value)
    return f"{key}: {sentence}{where}"


def name_option(message: str, config: Any, parser: argparse.ArgumentParser, *, own: bool) -> str:
    """Add to the message of a class that was given options the full name of the one that it is about, and its place.

    Args:
        message: what the class says.
        config: all settings.
        parser: the parser that read them.
        own: whether it is in metalit's words, ``inner_steps is -1, but ...``; otherwise the option is looked for.
    """
    settings = config.get(str(config.get("subcommand")), {})
    values = {key.replace("init_args.", ""): str(value) for key, value in settings.items()}
    match = re.search(r"(?<![\w.-])([a-z_][\w.]*) is (\S+?)(?=[,;:\s])", message) if own else None
    key = named(match[1], match[2], values) if match else None if own else blamed(message, values)
    if key is None:
        return message
    message = f"{message[: match.start(1)]}{key}{message[match.end(1) :]}" if match else f"{key}: {message}"
    return message + ("" if is_argument(parser, key) else place(config_files(parser), key.split("."), None))


def named(name: str, value: str, values: Mapping[str, str]) -> str | None:
    """Return the option of this value and this name, or one that ends with it: ``ways`` for ``data.train_ways``."""
    ending = re.compile(rf"(.*[._])?{re.escape(name)}")
    found = [key for key in values if ending.fullmatch(key) and values[key] == value]
    return min(found, key=lambda key: key.count("."), default=None)


def blamed(message: str, values: Mapping[str, str]) -> str | None:
    """Return the option whose name and value are in a message, or else one of both, if there is just one such."""
    words = set(re.findall(r"(?<![\w.-])-?[\w.:]*\w", message))

    def likeness(key: str) -> int:
        name = re.escape(key.removesuffix(".class_path").rpartition(".")[2])
        is_named = ("_" in name and name in words) or re.search(rf"`(\w+\()?{name}\b", message)
        return 2 * bool(is_named) + (values[key] in words - UNTELLING)

    most = max(map(likeness, values), default=0)
    found = [key for key in values if likeness(key) == most > 0]
    return found[0].removesuffix(".class_path") if len(found) == 1 else None


def innermost(error: BaseException) -> BaseException:
    """Return what a class raised that was being made, without jsonargparse's wrappings."""
    wrappings = ("Does not validate against", "Problem with given class_path", "Parser key")
    while error.__cause__ is not None and str(error).startswith(wrappings):
        error = error.__cause__
    return error


def config_files(parser: argparse.ArgumentParser) -> dict[str, Path]:
    """Return the configuration files that a parser or those of its commands have read, by name."""
    actions = list(parser._actions)
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            actions += [inner for command in action.choices.values() for inner in command._actions]
    found = [action.files for action in actions if isinstance(action, ConfigFile)]
    return {name: path for files in found for name, path in files.items()}


def read_chain(message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> Mistake:
    """Follow the exceptions to the innermost."""
    mistake = Mistake((), parser, "", None, False, message, None)
    for cause in causes(error):
        text = str(cause.args[0]) if isinstance(cause, KeyError) else str(cause)
        parser = getattr(cause, "parser", None) or getattr(cause, "subcommand_parser", None) or mistake.parser
        mistake = mistake._replace(text=text, parser=parser)
        if isinstance(cause, ParsingError):
            mistake = mistake._replace(is_value=False, value=None)
        elif match := re.match(r"Parser key \"([^\"]+)\"|--(\S+)\.help: ", text):
            name = match[1] or match[2]
            mistake = mistake._replace(keys=(*mistake.keys, name), action=option(parser, name), is_value=True)
        if match := re.search(
            r"given class_path '([^']+)'|value: (?:Namespace\(|\{')class_path(?:=|': )'([^']+)'", text
        ):
            mistake = mistake._replace(owner=(match[1] or match[2]).rpartition(".")[2])
        value = found_value(text)
        mistake = mistake if value is None else mistake._replace(value=value)
    return mistake._replace(owner=mistake.owner or mistake.parser.prog.split()[-1])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and what it came from, to the first."""
    while error is not None:
        yield error
        error = error.__cause__


def option(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    """Return a parser's option."""
    return next((action for action in parser._actions if action.dest == name), None)


def found_value(text: str) -> str | None:
    """Return the value with which a message of jsonargparse ends."""
    match = re.search(r"(?:Got|Given) value: (.*?)(?:\n|$)", text)
    if match is None:
        return None
    from_command_line = re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", match[1])
    value = str(literal(from_command_line[1])) if from_command_line else match[1]
    return "null" if value == "None" else value


def explain_unknown(mistake: Mistake) -> tuple[str, str] | None:
    """An option that is not there."""
    if match := re.match(r"unrecognized arguments: (\S+)", mistake.text):
        if not match[1].startswith("--"):
            return match[1], "is neither an option (--name VALUE) nor the value of one"
        unknown = match[1][2:].partition("=")[0]
    elif match := re.match(
        r"(?:Group '(.+)' does not accept o|Subcommand '.+' does not accept o|O)ption '(.+)'", mistake.text
    ):
        unknown = ".".join(part for part in match.groups() if part)
    else:
        return None
    options = [action.dest for action in mistake.parser._actions if is_setting(action)]
    if not options:
        return mistake.key(), f"has no class_path; expected {describe_values(mistake.action)}"
    unknown = first_unknown(unknown.replace("init_args.", ""), options)
    if near := nearest(unknown, options):
        hint = f"did you mean {mistake.key(near)}?"
    elif len(options) <= MOST_OPTIONS:
        hint = f"there are {', '.join(options)}"
    else:
        hint = f"see {mistake.parser.prog.replace(' [options]', '')} --help"
    return mistake.key(unknown), f"{mistake.owner} has no such option; {hint}"


def is_setting(action: argparse.Action) -> bool:
    """Whether an option belongs into a configuration file."""
    return not re.search(r"(^|\.)help$|^config$|^print_|^subcommand$", action.dest)


def first_unknown(key: str, options: Iterable[str]) -> str:
    """Return the shortest beginning of a dotted key that no option has: ``modle`` of ``modle.inner_steps``."""
    parts = key.split(".")
    beginnings = [".".join(parts[:length]) for length in range(1, len(parts))]
    return next(
        (b for b in beginnings if not any(f"{option}.".startswith(f"{b}.") for option in options)), key
    )


def explain_missing(mistake: Mistake) -> tuple[str, str] | None:
    """An option that must be there."""
    if not (match := re.match(r"the following arguments are required: (.*)", mistake.text)):
        return None
    if mistake.keys:
        missing = match[1].split(", ")[0]
        values = describe_values(option(mistake.parser, missing))
        return mistake.key(missing), f"not given, but {mistake.owner} needs it; expected {values}"
    names = [name.rpartition(".")[2] for name in match[1].split(", ")]
    options = " and ".join(f"--{name} CLASS" for name in names)
    return " and ".join(names), f"not given; use --config FILE, one of those in configs/, or {options}"


def explain_no_class(mistake: Mistake) -> tuple[str, str] | None:
    """Settings of a class that do not stand where they must."""
    value = literal(mistake.value)
    if not isinstance(value, dict):
        return None
    if not isinstance(value.get("class_path", ""), str):
        return mistake.key(
            "class_path"
        ), f"found {value['class_path']}, expected {describe_values(mistake.action)}"
    if not mistake.text.startswith("Not a valid subclass of"):
        return None
    if "class_path" not in value:
        return mistake.key(), f"has no class_path; expected {describe_values(mistake.action)}"
    extra = next(name for name in value if name not in ("class_path", "init_args", "dict_kwargs"))
    return mistake.key(extra), "stands beside class_path; the settings of a class stand under its init_args"


def explain_class(mistake: Mistake) -> tuple[str, str] | None:
    """A class that does not exist, or does not fit."""
    match = next((match for pattern in WRONG_CLASS if (match := re.search(pattern, mistake.text))), None)
    if match is None:
        return None
    found, spec = match.groupdict(), literal(mistake.value)
    given = spec.get("class_path") if isinstance(spec, dict) else None
    path = found.get("path") or given or ".".join(part for part in match.groups() if part)
    expected = f"expected {describe_values(mistake.action)}"
    if found.get("abstract"):
        return mistake.key(), f"{path} is an abstract class; {expected}"
    if found.get("unfit"):
        return mistake.key(), f"{path} is another kind of class; {expected}"
    module, _, name = path.rpartition(".")
    near = nearest(name, known_classes(mistake.action))
    near = f"{module}.{near}" if near and found.get("name") else near
    return mistake.key(), f"there is no class {path}; {f'did you mean {near}?' if near else expected}"


def explain_command(mistake: Mistake) -> tuple[str, str] | None:
    """A command line that argparse itself does not understand."""
    if match := re.match(r"expected \"subcommand\" to be one of \{(.*)\}", mistake.text):
        return "command", f"not given; expected {any_of(match[1].split(','))}, then --config FILE"
    if match := re.match(r"argument subcommand: invalid choice: '(.+)' \(choose from (.*)\)", mistake.text):
        commands = re.findall(r"\w+", match[2])
        near = nearest(match[1], commands)
        return match[1], "no such command; " + (
            f"did you mean {near}?" if near else f"there are {any_of(commands)}"
        )
    if match := re.match(r"argument (?:-\w/)?(--\S+): expected", mistake.text):
        return bare_option(mistake.parser, match[1])[2:], "a value must follow"
    return None


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Return the command line that a parser, or the parser of all commands around it, was given."""
    return list(getattr(getattr(parser, "parent_parser", parser), "args", None) or [])


def is_argument(parser: argparse.ArgumentParser, key: str) -> bool:
    """Whether an option stands on the command line."""
    names = [argument.removeprefix("--").partition("=")[0] for argument in arguments(parser)]
    return any(name.replace("init_args.", "").removesuffix(".help") == key for name in names)


def bare_option(parser: argparse.ArgumentParser, name: str) -> str:
    """Return the argument without a value that argparse calls ``name``, though it may be longer: ``--model.x``."""
    pairs = pairwise([*arguments(parser), "--"])
    return next((a for a, then in pairs if f"{a}.".startswith(f"{name}.") and then.startswith("--")), name)


def explain_value(mistake: Mistake) -> tuple[str, str]:
    """A value of a wrong type, or anything else in jsonargparse's own words."""
    if mistake.is_value and mistake.value is not None:
        return mistake.key(), f"found {mistake.value}, expected {describe_values(mistake.action)}"
    text = re.sub(r"^Parser key \"[^\"]+\":\s*", "", mistake.text)
    return mistake.key() or "options", " ".join(text.split())


def literal(text: str | None) -> Any:
    """Return the value whose ``repr`` this is, else the text."""
    try:
        return ast.literal_eval(text or "")
    except (ValueError, SyntaxError):
        return text
