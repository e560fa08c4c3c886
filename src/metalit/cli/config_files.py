"""Configuration files: checks of a file as a whole, and the line in which a setting stands."""

import argparse
import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml  # type: ignore[import-untyped]
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]

from metalit.cli.shipped import config_path

PARTS_OF_A_CLASS = ("class_path", "init_args", "dict_kwargs")  # the keys of a class in a file

Pairs = list[tuple[yaml.Node, yaml.Node]]


class ConfigFile(ActionConfigFile):
    """The option ``--config``: checks the file as a whole before jsonargparse reads it, and remembers its path."""

    files: Mapping[str, Path] = MappingProxyType({})  # path of each file, by the name the user gave

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Read the settings of a file.

        Raises:
            TypeError: the file cannot be read, is not a YAML mapping, or has a key beside ``class_path`` that does not
                belong there; with the wording of jsonargparse's own errors, so that ``explain`` can parse it.
        """
        try:
            node = check_config_file(path := config_path(str(values)))
        except ValueError as error:
            raise TypeError(f'Parser key "{self.dest}": {error}') from None
        self.files = {**self.files, values: path.absolute()}  # jsonargparse changes into the file's folder
        for key in _beside_classes(node):
            raise TypeError(f'Parser key "{key}": {beside_class(key)}')
        super().__call__(parser, namespace, str(path), option_string)  # type: ignore[no-untyped-call]


def check_config_file(path: Path) -> yaml.MappingNode:
    """Return the root mapping of a configuration file; refuse anything else.

    Args:
        path: path of the file.

    Raises:
        ValueError: with the file, and the line if it is known.
    """
    if not path.is_file():
        raise ValueError(f"there is no file {path}{_similar_file(path)}")
    try:
        # compose, not load: nodes keep line numbers and repeated keys, both of which load would drop.
        node = yaml.compose(path.read_text(encoding="utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not a text file ({error.reason} at byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = "" if mark is None else f", line {mark.line + 1}"
        raise ValueError(f"{path}{where} is not YAML: {error.problem or error.context}") from error
    # A character that YAML forbids: such an error has no line.
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(node, yaml.MappingNode):
        found = "nothing" if node is None else f"a {node.id}"
        raise ValueError(f"{path} holds {found}, expected settings such as model, data and trainer")
    for key, lines in _repeated(node):
        raise ValueError(f"{path} has {key} twice, in lines {lines[0]} and {lines[1]}")
    return node


def beside_class(key: str) -> str:
    """Return what is wrong with a key that stands beside ``class_path``."""
    near = difflib.get_close_matches(key.rpartition(".")[2], PARTS_OF_A_CLASS, n=1, cutoff=0.8)
    hint = f"did you mean {near[0]}?" if near else "the settings of a class stand under its init_args"
    return f"stands beside class_path; {hint}"


def place(files: Mapping[str, Path], keys: Sequence[str], value: str | None) -> str:
    """Return the file and the line in which a setting stands.

    Args:
        files: configuration files by name; the later overrides the earlier.
        keys: path to the setting, without ``init_args``.
        value: the ``repr`` or the text of the value found; a file with another value is not where it came from.

    Returns:
        `` (FILE, line N)``, or an empty string.
    """
    # The last file that has the setting is the one whose value counts.
    for name, file in reversed(list(files.items())):
        node: yaml.Node | None = yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)
        line = 0
        for key in keys:
            # Keys have no list indices: in a list, such as trainer.callbacks, the first element with the key is taken.
            within = node.value if isinstance(node, yaml.SequenceNode) else [node]
            places = [place for each in within for place in (each, _value(each, "init_args"))]
            entry = next((found for place in places if (found := _entry(place, key))), None)
            if entry is None:
                break
            line, node = entry[0].start_mark.line + 1, entry[1]
        else:
            return f" ({name}, line {line})" if keys and _may_be(node, value) else ""
    return ""


def full_name(files: Mapping[str, Path], name: str) -> str:
    """Return the dotted name of a setting of which only the last part is known.

    Args:
        files: configuration files by name; the last one that has the setting decides.
        name: the last part.
    """
    full = name
    for file in files.values():
        for keys, pairs in _mappings(yaml.compose(file.read_text(encoding="utf-8"), yaml.SafeLoader)):
            if name in (inner.value for inner, _ in pairs):
                full = ".".join([*keys, name])
    return full


def _may_be(node: yaml.Node | None, value: str | None) -> bool:
    """Whether a node may have given the value found; if not, the value comes from elsewhere."""
    if value is None:
        return True
    if isinstance(node, yaml.ScalarNode):
        return bool(node.value == value)
    if isinstance(node, yaml.MappingNode) and (path := _value(node, "class_path")) is not None:
        return repr(path.value) in value
    # A list or a mapping: its repr cannot be compared to nodes of YAML, so only the kind is.
    return value[:1] in "[{"


def _entry(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    """Return a mapping's entry with the key, name and value, or None."""
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((name, value) for name, value in reversed(pairs) if name.value == key), None)


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    entry = _entry(node, key)
    return None if entry is None else entry[1]


def _mappings(node: yaml.Node | None, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Pairs]]:
    """Yield every mapping with the path to it, without ``init_args``."""
    if isinstance(node, yaml.SequenceNode):
        for element in node.value:
            yield from _mappings(element, keys)
    elif isinstance(node, yaml.MappingNode):
        yield keys, node.value
        for name, value in node.value:
            yield from _mappings(value, keys if name.value == "init_args" else (*keys, str(name.value)))


def _repeated(node: yaml.Node) -> Iterator[tuple[str, tuple[int, int]]]:
    """Yield each key that a mapping has twice, with both lines."""
    for keys, pairs in _mappings(node):
        lines: dict[str, int] = {}
        for name, _ in pairs:
            line = name.start_mark.line + 1
            # "<<" merges an anchored mapping and may be repeated.
            if name.value in lines and name.value != "<<":
                yield ".".join([*keys, name.value]), (lines[name.value], line)
            lines[str(name.value)] = line


def _beside_classes(node: yaml.Node) -> Iterator[str]:
    """Yield each key that stands beside ``class_path`` or ``init_args`` without being one of a class's keys."""
    for keys, pairs in _mappings(node):
        names = [str(name.value) for name, _ in pairs]
        if not {"class_path", "init_args"}.isdisjoint(names):
            yield from (".".join([*keys, name]) for name in names if name not in PARTS_OF_A_CLASS)


def _similar_file(path: Path) -> str:
    """Return a hint at an existing file with a similar path, or an empty string."""
    # All of configs too: the name may be right and the folder wrong.
    files = [*path.parent.glob("*.yaml"), *Path("configs").rglob("*.yaml")]
    near = difflib.get_close_matches(str(path), sorted({str(file) for file in files}), n=1)
    return f"; did you mean {near[0]}?" if near else ""
