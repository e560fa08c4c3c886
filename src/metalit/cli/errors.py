"""One sentence for a mistake in options: the key, what was found, what is expected, and the nearest valid name.

jsonargparse nests a message per class and per alternative of a type. Its exceptions are chained from the outermost
(``model``) to the innermost (``Expected a <class 'int'>. Got value: five``), so the chain gives the way to the key, and
its end what is wrong there.
"""

import argparse
import ast
import errno
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from jsonargparse import Namespace

from metalit.cli.config_files import ConfigFile, beside_class, full_name, place
from metalit.cli.values import any_of, describe_values, known_classes, nearest

MOST_OPTIONS = 15  # a longer list helps nobody
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
UNTELLING = {"None", "True", "False", "0", "1"}  # values of many options
WRONG_CLASS = (
    r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'",
    r"No module named '(?P<module>[^']+)'",
    r"Expected a dot import path string: (?P<path>\S*)",
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
        files: the configuration files that were read, by name.
    """

    keys: tuple[str, ...]
    parser: argparse.ArgumentParser
    owner: str
    action: argparse.Action | None
    is_value: bool
    text: str
    value: str | None
    files: Mapping[str, Path]

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
        explain_odd_name,
        explain_unknown,
        explain_missing,
        explain_no_class,
        explain_class,
        explain_command,
        explain_value,
    )
    key, sentence = next(found for explanation in explanations if (found := explanation(mistake)))
    where = "" if is_argument(parser, key) else place(mistake.files, key.split("."), mistake.value)
    return f"{key}: {sentence}{where}"


def explain_error(error: BaseException, config: Any, parser: argparse.ArgumentParser, *, own: bool) -> str:
    """Return one sentence for what went wrong after all options were read.

    Args:
        error: what was raised.
        config: all settings.
        parser: the parser that read them.
        own: whether metalit's own code raised it, with a message written for its users.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return name_option(str(error), config, parser, own=own)
    reason = os.strerror(error.errno)
    if error.errno not in NO_ROOM:
        return reason if error.filename is None else f"{error.filename}: {reason}"
    run_dir = config.get(str(config.get("subcommand")), {}).get("run_dir")
    place = error.filename if run_dir is None else f"run_dir: {run_dir}"
    return f"{place} cannot be written ({reason}); checkpoints are as they were; make room, or name another --run_dir"


def name_option(message: str, config: Any, parser: argparse.ArgumentParser, *, own: bool) -> str:
    """Add to the message of a class that was given options the full name of the one that it is about, and its place.

    Args:
        message: what the class says.
        config: all settings.
        parser: the parser that read them.
        own: whether it is in metalit's words, ``inner_steps is -1, but ...``; otherwise the option is looked for.
    """
    settings = config.get(str(config.get("subcommand")), {})
    values = {key: str(value) for key, value in all_options(settings)}
    match = re.search(r"(?<![\w.-])([a-z_][\w.]*) is (\[.*?\]|\S+?)(?=[,;:\s])", message) if own else None
    key = named(match[1], match[2], values) if match else None if own else blamed(message, values)
    if key is None:
        return message
    message = f"{message[: match.start(1)]}{key}{message[match.end(1) :]}" if match else f"{key}: {message}"
    return message + ("" if is_argument(parser, key) else place(config_files(parser), key.split("."), None))


def all_options(settings: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield every option's full name and value, those of the classes in a list too."""
    for key, value in settings.items():
        name = ".".join([*keys, key]).replace("init_args.", "")
        yield name, value
        for each in value if isinstance(value, list) else []:
            if isinstance(each, Namespace):
                yield from all_options(each, (name,))


def named(name: str, value: str, values: Mapping[str, str]) -> str | None:
    """Return the option of this value and this name, or one that ends with it: ``ways`` for ``data.train_ways``."""
    ending = re.compile(rf"(.*[._])?{re.escape(name)}")
    found = [key for key in values if ending.fullmatch(key) and values[key] == value]
    return min(found, key=lambda key: key.count("."), default=None)


def blamed(message: str, values: Mapping[str, str]) -> str | None:
    """Return the option whose name and value are in a message, or else one of both, if there is just one such.

    Of several, it is the one whose value comes last: ``mode can be min or max, got sideways``.
    """
    words = set(re.findall(r"(?<![\w.-])-?[\w.:]*\w", message))

    def likeness(key: str) -> int:
        name = re.escape(key.removesuffix(".class_path").rpartition(".")[2])
        is_named = ("_" in name and name in words) or re.search(rf"`(\w+\()?{name}\b", message)
        return 2 * bool(is_named) + (values[key] in words - UNTELLING)

    most = max(map(likeness, values), default=0)
    found = [key for key in values if likeness(key) == most > 0]
    last = max((message.rfind(values[key]) for key in found), default=-1)
    found = [key for key in found if message.rfind(values[key]) == last]
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
    mistake = Mistake((), parser, "", None, False, message, None, config_files(parser))
    for cause in causes(error):
        text = str(cause.args[0]) if isinstance(cause, KeyError) else str(cause)
        parser = getattr(cause, "parser", None) or getattr(cause, "subcommand_parser", None) or mistake.parser
        mistake = mistake._replace(text=text, parser=parser)
        if isinstance(cause, ParsingError):
            mistake = mistake._replace(is_value=False, value=None)
        elif match := re.match(r"Parser key \"([^\"]+)\"|--(\S+)\.help: ", text):
            name = match[1] or match[2]
            keys = (
                mistake.keys if mistake.keys[-1:] == (name,) and mistake.is_value else (*mistake.keys, name)
            )
            mistake = mistake._replace(keys=keys, action=option(parser, name), is_value=True)
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
    match = re.search(r"(?:Got|Given) value: (.*?)(?:\n|$)|Unable to load config \"(.*)\"", text)
    if match is None:
        return None
    found = match[1] or match[2] or ""
    from_command_line = re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", found)
    value = str(literal(from_command_line[1])) if from_command_line else found
    return "null" if value == "None" else value


def explain_odd_name(mistake: Mistake) -> tuple[str, str] | None:
    """A name that none can have."""
    if match := re.match(r"Spaces not allowed in keys: \"(.+)\"", mistake.text):
        return full_name(mistake.files, match[1]), "there is no such option, for names have no spaces"
    return None


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
    known = [action.dest for action in mistake.parser._actions if is_setting(action)]
    if not known:
        return mistake.key(), f"has no class_path; expected {describe_values(mistake.action)}"
    unknown = first_unknown(unknown.replace("init_args.", ""), known)
    if near := nearest_option(unknown, known):
        hint = f"did you mean {mistake.key(near)}?"
    elif len(known) <= MOST_OPTIONS:
        hint = f"there are {', '.join(known)}"
    else:
        hint = f"see {mistake.parser.prog.replace(' [options]', '')} --help"
    return mistake.key(unknown), f"{mistake.owner} has no such option; {hint}"


def is_setting(action: argparse.Action) -> bool:
    """Whether an option belongs into a configuration file."""
    return not re.search(r"(^|\.)help$|^config$|^print_|^subcommand$", action.dest)


def nearest_option(unknown: str, known: Iterable[str]) -> str | None:
    """Return the option of that name under another heading, else the one most like it."""
    elsewhere = [name for name in known if name.endswith("." + unknown.rpartition(".")[2])]
    return (
        elsewhere[0] if elsewhere else nearest(unknown, [n for n in known if not unknown.startswith(n + ".")])
    )


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
    return " and ".join(names), f"not given; use --config FILE, such as metalit:omniglot/maml, or {options}"


def explain_no_class(mistake: Mistake) -> tuple[str, str] | None:
    """Settings of a class that do not stand where they must."""
    value = literal(mistake.value)
    if not isinstance(value, dict) or not mistake.text.startswith("Not a valid subclass of"):
        return None
    if "class_path" not in value:
        return mistake.key(), f"has no class_path; expected {describe_values(mistake.action)}"
    extra = next(name for name in value if name not in ("class_path", "init_args", "dict_kwargs"))
    return mistake.key(extra), beside_class(extra)


def explain_class(mistake: Mistake) -> tuple[str, str] | None:
    """A class that does not exist, or does not fit."""
    match = next((match for pattern in WRONG_CLASS if (match := re.search(pattern, mistake.text))), None)
    if match is None:
        return None
    found, spec = match.groupdict(), literal(mistake.value)
    given = spec.get("class_path") if isinstance(spec, dict) else None
    path = found.get("path") or given or ".".join(part for part in match.groups() if part) or "''"
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
    key = key.removesuffix(".class_path")
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
