"""One sentence for a mistake in options: the key, what was found, what is expected, and the nearest valid name.

jsonargparse nests one message per class and per alternative of a type. Its exceptions are chained from the outermost
(``model``) to the innermost (``Expected a <class 'int'>. Got value: five``). The chain gives the path to the key; its
end says what is wrong there.
"""

import argparse
import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from metalit.cli.config_files import ConfigFile, beside_class, full_name, place
from metalit.cli.values import any_of, describe_values, known_classes, nearest
from metalit.private import commands_of, options_of

MOST_OPTIONS = 15  # a longer list is replaced by a pointer to --help
# Messages of Python and jsonargparse about a class_path. The names of the groups say which kind of mistake it is.
WRONG_CLASS = (
    r"module '(?P<module>[^']+)' has no attribute '(?P<name>[^']+)'",
    r"No module named '(?P<module>[^']+)'",
    r"Expected a dot import path string: (?P<path>\S*)",
    r"Import path (?P<path>\S+) does not (?P<unfit>correspond to a subclass of)",
    r"Expected an instantiatable class, but (?P<path>\S+) is (?P<abstract>abstract)",
    r"Expected '(?P<path>[^']+)' to be .*(?P<unfit>subclass of)",
)


class ParsingError(argparse.ArgumentError):
    """A mistake that the parser of a class reports to the parser around it.

    Args:
        message: what is wrong.
        parser: the parser that reports it.
    """

    def __init__(self, message: str, parser: argparse.ArgumentParser) -> None:
        super().__init__(None, message)
        self.parser = parser


class Mistake(NamedTuple):
    """The end of a chain of exceptions, and the path to it.

    Attributes:
        keys: the options on the path, outermost first: ``("model", "network")``.
        parser: the parser of the innermost class, or of the command.
        owner: the name of that class or command.
        action: the innermost option.
        is_value: whether the value of that option itself is wrong, as opposed to a setting of the class that it names.
        text: the message of the last exception.
        value: the ``repr`` or the text of the value found, if any message has it.
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
        """Return the dotted name of the option, or of one below it.

        Args:
            more: names below the option.
        """
        return ".".join([*self.keys, *more])


def explain(message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> str:
    """Return one sentence for a parser's complaint, with the file and the line if the setting stands in a file.

    Args:
        message: jsonargparse's message.
        error: the exception behind it.
        parser: the parser that complains.
    """
    mistake = read_chain(message, error, parser)
    # The first that recognises the message explains it. explain_value accepts any, so it must stay last.
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
    # An option on the command line overrides the files, so a line number would point to the wrong value.
    where = "" if is_argument(parser, key) else place(mistake.files, key.split("."), mistake.value)
    return f"{key}: {sentence}{where}"


def config_files(parser: argparse.ArgumentParser) -> dict[str, Path]:
    """Return the configuration files that a parser and the parsers of its commands have read, by name."""
    options = [option for each in (parser, *commands_of(parser)) for option in options_of(each)]
    found = [option.files for option in options if isinstance(option, ConfigFile)]
    return {name: path for files in found for name, path in files.items()}


def read_chain(message: str, error: BaseException | None, parser: argparse.ArgumentParser) -> Mistake:
    """Follow the chain of exceptions to the innermost.

    Args:
        message: jsonargparse's message, the answer where there is no exception.
        error: the outermost exception.
        parser: the parser that raised it.
    """
    mistake = Mistake((), parser, "", None, False, message, None, config_files(parser))
    for cause in causes(error):
        # str() of a KeyError is the repr of its message, in quotes.
        text = str(cause.args[0]) if isinstance(cause, KeyError) else str(cause)
        parser = getattr(cause, "parser", None) or getattr(cause, "subcommand_parser", None) or mistake.parser
        mistake = mistake._replace(text=text, parser=parser)
        if isinstance(cause, ParsingError):
            # The option's value is a class with a parser of its own; the mistake is in one of that class's options.
            mistake = mistake._replace(is_value=False, value=None)
        elif match := re.match(r"Parser key \"([^\"]+)\"|--(\S+)\.help: ", text):
            name = match[1] or match[2]
            # jsonargparse repeats a key for each alternative of its type; it must appear in the path once.
            keys = mistake.keys if mistake.keys[-1:] == (name,) and mistake.is_value else (*mistake.keys, name)
            mistake = mistake._replace(keys=keys, action=option(parser, name), is_value=True)
        if match := re.search(
            r"given class_path '([^']+)'|value: (?:Namespace\(|\{')class_path(?:=|': )'([^']+)'", text
        ):
            mistake = mistake._replace(owner=(match[1] or match[2]).rpartition(".")[2])
        value = found_value(text)
        mistake = mistake if value is None else mistake._replace(value=value)
    return mistake._replace(owner=mistake.owner or mistake.parser.prog.split()[-1])


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def option(parser: argparse.ArgumentParser, name: str) -> argparse.Action | None:
    """Return a parser's option by name, or None."""
    return next((action for action in options_of(parser) if action.dest == name), None)


def found_value(text: str) -> str | None:
    """Return the value at the end of a message of jsonargparse, or None if it has none."""
    match = re.search(r"(?:Got|Given) value: (.*?)(?:\n|$)|Unable to load config \"(.*)\"", text)
    if match is None:
        return None
    found = match[1] or match[2] or ""
    # jsonargparse wraps an option of the command line that is nested in a class; users know only its value.
    from_command_line = re.match(r"NestedArg\(key='[^']*', val=(.*)\)$", found)
    value = str(literal(from_command_line[1])) if from_command_line else found
    return "null" if value == "None" else value  # as YAML writes it


def explain_odd_name(mistake: Mistake) -> tuple[str, str] | None:
    """Explain a name that no option can have."""
    if match := re.match(r"Spaces not allowed in keys: \"(.+)\"", mistake.text):
        # jsonargparse's message has only the last part of the name.
        return full_name(mistake.files, match[1]), "there is no such option, for names have no spaces"
    return None


def explain_unknown(mistake: Mistake) -> tuple[str, str] | None:
    """Explain an option that does not exist."""
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
    # A parser without options is that of a base class: the class_path is missing, so no name could be right.
    known = [action.dest for action in options_of(mistake.parser) if is_setting(action)]
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


def explain_missing(mistake: Mistake) -> tuple[str, str] | None:
    """Explain a required option that was not given."""
    if not (match := re.match(r"the following arguments are required: (.*)", mistake.text)):
        return None
    if mistake.keys:
        missing = match[1].split(", ")[0]
        values = describe_values(option(mistake.parser, missing))
        return mistake.key(missing), f"not given, but {mistake.owner} needs it; expected {values}"
    # At the top level these are model and data, which a configuration file names.
    names = [name.rpartition(".")[2] for name in match[1].split(", ")]
    options = " and ".join(f"--{name} CLASS" for name in names)
    return " and ".join(names), f"not given; use --config FILE, such as metalit:omniglot/maml, or {options}"


def explain_no_class(mistake: Mistake) -> tuple[str, str] | None:
    """Explain settings of a class that lack ``class_path``, or stand beside it instead of under ``init_args``."""
    value = literal(mistake.value)
    if not isinstance(value, dict) or not mistake.text.startswith("Not a valid subclass of"):
        return None
    if "class_path" not in value:
        return mistake.key(), f"has no class_path; expected {describe_values(mistake.action)}"
    extra = next(name for name in value if name not in ("class_path", "init_args", "dict_kwargs"))
    return mistake.key(extra), beside_class(extra)


def explain_class(mistake: Mistake) -> tuple[str, str] | None:
    """Explain a class that does not exist or is of the wrong kind."""
    match = next((match for pattern in WRONG_CLASS if (match := re.search(pattern, mistake.text))), None)
    if match is None or "cannot import" in mistake.text:  # import_problem's message, complete as it is
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
    """Explain a command line that argparse itself rejects."""
    if match := re.match(r"expected \"subcommand\" to be one of \{(.*)\}", mistake.text):
        return "command", f"not given; expected {any_of(match[1].split(','))}, then --config FILE"
    if match := re.match(r"argument subcommand: invalid choice: '(.+)' \(choose from (.*)\)", mistake.text):
        commands = re.findall(r"\w+", match[2])
        near = nearest(match[1], commands)
        return match[1], "no such command; " + (f"did you mean {near}?" if near else f"there are {any_of(commands)}")
    if match := re.match(r"argument (?:-\w/)?(--\S+): expected", mistake.text):
        return bare_option(mistake.parser, match[1])[2:], "a value must follow"
    return None


def arguments(parser: argparse.ArgumentParser) -> list[str]:
    """Return the command line that was given to a parser, or to the parser of all commands around it."""
    return list(getattr(getattr(parser, "parent_parser", parser), "args", None) or [])


def is_argument(parser: argparse.ArgumentParser, key: str) -> bool:
    """Whether an option was given on the command line."""
    names = [argument.removeprefix("--").partition("=")[0] for argument in arguments(parser)]
    # --model MAML on the command line sets model.class_path.
    key = key.removesuffix(".class_path")
    # jsonargparse accepts the path with and without init_args.
    return any(name.replace("init_args.", "").removesuffix(".help") == key for name in names)


def bare_option(parser: argparse.ArgumentParser, name: str) -> str:
    """Return the argument without a value that argparse shortens to ``name``: ``--model.x`` for ``--model``."""
    pairs = pairwise([*arguments(parser), "--"])
    return next((a for a, then in pairs if f"{a}.".startswith(f"{name}.") and then.startswith("--")), name)


def explain_value(mistake: Mistake) -> tuple[str, str]:
    """Explain a value of the wrong type; for anything else, return jsonargparse's own words."""
    if mistake.is_value and mistake.value is not None:
        return mistake.key(), f"found {mistake.value}, expected {describe_values(mistake.action)}"
    text = re.sub(r"^Parser key \"[^\"]+\":\s*", "", mistake.text)
    return mistake.key() or "options", " ".join(text.split())


def literal(text: str | None) -> Any:
    """Return the value whose ``repr`` is given, or the text itself if it is none."""
    try:
        return ast.literal_eval(text or "")
    except (ValueError, SyntaxError):
        return text
