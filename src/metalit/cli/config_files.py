"""Configuration files: checks of a file as a whole, and the line in which a setting stands."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

from metalit.cli.shipped import config_path
from metalit.cli.values import nearest

PARTS_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")  # the keys of a class in a file

Entry = tuple[yaml.Node, yaml.Node]  # a key and its value


class ConfigFile(ActionConfigFile):
    """The option ``--config``: checks the file as a whole before jsonargparse reads it, and remembers its path."""

    files: Mapping[str, Path] = MappingProxyType({})  # path of each file, by the name the user gave

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Read the settings of a file after checks of its form."""
        try:
            node = check_config_file(path := config_path(str(values)))
        except ValueError as error:
            raise refusal(self.dest, error) from None
        self.files = {**self.files, values: path.absolute()}  # jsonargparse changes into the file's folder
        for key in _beside_classes(node):
            raise refusal(key, beside_class(key))
        super().__call__(parser, namespace, str(path), option_string)  # type: ignore[no-untyped-call]


def refusal(key: str, problem: object) -> TypeError:
    """Return an error about an option, in jsonargparse's own wording, so that ``explain`` can parse it."""
    return TypeError(f'Parser key "{key}": {problem}')


def check_config_file(path: Path) -> yaml.MappingNode:
    """Return the root mapping of a configuration file.

    Raises:
        ValueError: the file is something else; with its path, and the line if it is known.
    """
    if not path.is_file():
        # All of configs too: the name may be right and the folder wrong.
        near = nearest(
            str(path), {str(file) for file in (*path.parent.glob("*.yaml"), *Path("configs").rglob("*.yaml"))}
        )
        raise ValueError(f"there is no file {path}" + (f"; did you mean {near}?" if near else ""))
    try:
        node = _root(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file ({error.reason} at byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{path}{where} is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # a character that YAML forbids: such an error has no line
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        found = "nothing" if node is None else f"a {node.id}"
        raise ValueError(f"{path} holds {found}, expected settings such as model, data and trainer")
    for key, lines in _repeated(node):
        raise ValueError(f"{path} has {key} twice, in lines {lines[0]} and {lines[1]}")
    return node


def beside_class(key: str) -> str:
    """Return what is wrong with a key that stands beside ``class_path``."""
    near = nearest(key.rpartition(".")[2], PARTS_OF_A_CLASS, cutoff=0.8)
    hint = f"did you mean {near}?" if near else "the settings of a class stand under its init_args"
    return f"stands beside class_path; {hint}"


def place(files: Mapping[str, Path], key: str, value: str | None) -> str:
    """Return the file and the line in which a setting stands, as `` (FILE, line N)``, or an empty string.

    Args:
        files: configuration files by name; the later overrides the earlier.
        key: dotted name of the setting, without ``init_args``.
        value: the ``repr`` or the text of the value found; a file with another value is not where it came from.
    """
    for name, path in reversed(list(files.items())):
        entries = [entry for full, entry in _entries(path) if full == key]
        if entries:  # of several files that have the setting, the value of the last one counts
            lines = [start.start_mark.line + 1 for start, node in entries if _may_be(node, value)]
            return f" ({name}, line {lines[0]})" if lines else ""
    return ""


def full_name(files: Mapping[str, Path], name: str) -> str:
    """Return the dotted name of a setting whose last part is known, as the last file that has one spells it."""
    found = [full for path in files.values() for full, _ in _entries(path) if f".{full}".endswith(f".{name}")]
    return found[-1] if found else name


def _may_be(node: yaml.Node, value: str | None) -> bool:
    """Whether a node may have given the value found; if not, the value comes from elsewhere."""
    if value is None:
        return True
    if isinstance(node, yaml.ScalarNode):
        return bool(node.value == value)
    if isinstance(node, yaml.MappingNode):
        paths = [each.value for key, each in node.value if key.value == "class_path"]
        if paths:
            return repr(paths[-1]) in value
    # A list or a mapping: its repr cannot be compared to nodes of YAML, so only the kind is.
    return value[:1] in "[{"


def _root(path: Path) -> yaml.Node | None:
    # compose, not load: nodes keep line numbers and repeated keys, both of which load would drop.
    return yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)


def _mappings(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, list[Entry]]]:
    """Yield the entries of each mapping after their common prefix, ``model.network.``, which has no ``init_args``."""
    if isinstance(node, yaml.SequenceNode):
        for element in node.value:
            yield from _mappings(element, prefix)
    elif isinstance(node, yaml.MappingNode):
        yield prefix, node.value
        for key, value in node.value:
            yield from _mappings(value, prefix if key.value == "init_args" else f"{prefix}{key.value}.")


def _entries(path: Path) -> Iterator[tuple[str, Entry]]:
    """Yield each setting of a file by its dotted name."""
    for prefix, entries in _mappings(_root(path)):
        yield from ((f"{prefix}{entry[0].value}", entry) for entry in entries)


def _repeated(root: yaml.Node) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each key that a mapping has twice, with both lines."""
    for prefix, entries in _mappings(root):
        lines: dict[str, int] = {}
        for name, line in ((str(key.value), key.start_mark.line + 1) for key, _ in entries):
            if name in lines and name != "<<":  # "<<" merges an anchored mapping and may be repeated
                yield f"{prefix}{name}", (lines[name], line)
            lines[name] = line


def _beside_classes(root: yaml.Node) -> Iterator[str]:
    """Yield each key that stands beside ``class_path`` or ``init_args`` without being one of a class's keys."""
    for prefix, entries in _mappings(root):
        names = [str(key.value) for key, _ in entries]
        if "class_path" in names or "init_args" in names:
            yield from (f"{prefix}{name}" for name in names if name not in PARTS_OF_A_CLASS)
