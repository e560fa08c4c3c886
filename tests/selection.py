"""What a test belongs to: the algorithms whose row it is (``--algorithm``), and the marks that go by its place."""

import inspect
import re
import sys
from collections.abc import Iterable
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from yaml_files import read_yaml

TESTS = Path(__file__).parent
CONFIGS, PAGES = TESTS.parent / "configs", TESTS.parent / "docs" / "algorithms"
# what is around the mathematics: processes, files, pages, the command line
SERVICE = {"cli", "cluster", "distributed", "evaluation", "figures", "inference", "runs"}  # folders
SERVICE |= {
    "test_benchmarks", "test_configs", "test_docker", "test_docs", "test_gpu_check", "test_loading", "test_selection",
    "test_speed_benchmark",
}  # fmt: skip
# a name alone, with its module before it, or with something after it: metalit.algorithms.MAML, MAML-glyphs
NAMED = re.compile(r"(?:[\w.]+\.)?(\w+)(?:[-/ ].*)?")


@cache
def algorithms() -> dict[str, type]:
    """Return every exported algorithm by its name."""
    import metalit.algorithms  # seconds, which only who asks for an algorithm pays

    exported = {name: getattr(metalit.algorithms, name) for name in metalit.algorithms.__all__}
    return {name: cls for name, cls in exported.items() if not inspect.isabstract(cls)}


@cache
def by_module() -> dict[str, str]:
    """Return the algorithms by the names of their modules, after which their pages and tests are called."""
    return {cls.__module__.rpartition(".")[2]: name for name, cls in algorithms().items()}


def check_names(names: Iterable[str]) -> None:
    """Refuse names that no algorithm has.

    Raises:
        pytest.UsageError: names the nearest.
    """
    for name in names:
        if name not in algorithms():
            folded = {known.lower(): known for known in algorithms()}
            near = [folded[match] for match in get_close_matches(name.lower(), folded, n=3, cutoff=0.5)]
            raise pytest.UsageError(
                f"--algorithm {name}: there is no such algorithm; the nearest are {', '.join(near)}"
                if near
                else f"--algorithm {name}: there is no such algorithm, but {', '.join(sorted(algorithms()))}"
            )


@cache
def algorithm_of_config(path: Path) -> str:
    """Return the name of the algorithm that a configuration trains; empty where it names none."""
    model = read_yaml(path).get("model", {})
    return str(model.get("class_path", "")).rpartition(".")[2]


def algorithms_of_value(value: Any) -> set[str]:
    """Return the algorithms that one argument of a row names: as a class, a case, a config, a page or a string."""
    known = algorithms()
    if isinstance(value, type):
        return {value.__name__} if known.get(value.__name__) is value else set()
    if isinstance(value, str):
        match = NAMED.fullmatch(value)
        return {match[1]} & known.keys() if match else set()
    if isinstance(value, Path):
        name = by_module().get(value.stem, "") if value.is_relative_to(PAGES) else ""
        name = algorithm_of_config(value) if value.is_relative_to(CONFIGS) else name
        return {name} & known.keys()
    if hasattr(value, "experiment"):  # a mutation of a config
        return algorithms_of_value(CONFIGS / value.experiment)
    return algorithms_of_value(value.algorithm) if hasattr(value, "algorithm") else set()  # a case


def algorithms_of(item: pytest.Item) -> set[str]:
    """Return the algorithms that a test belongs to.

    A row belongs to those that its arguments name. A test that names none belongs to the algorithms that a mark of its
    file says, or else to the one after whose module the file is called.
    """
    callspec = getattr(item, "callspec", None)
    named = set().union(*map(algorithms_of_value, callspec.params.values())) if callspec else set()
    if named:
        return named
    if mark := item.get_closest_marker("algorithms"):
        return set(mark.args)
    return {by_module().get(item.path.stem.removeprefix("test_"), "")} & algorithms().keys()


def compiles(value: Any) -> bool:
    """Whether an argument of a row is an engine that compiles, or settings with one."""
    values = value.values() if isinstance(value, dict) else [value]
    return any(getattr(each, "compile", False) is True for each in values)


def marks_of(item: pytest.Item) -> set[str]:
    """Return the marks that a test has by its place and its row: ``battery``, ``compile`` and ``service``."""
    place = item.path.relative_to(TESTS)
    arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
    found = {"service"} if {place.parts[0], place.stem} & SERVICE else set()
    if "compile" in item.name.replace("uncompiled", "") or any(map(compiles, arguments)):
        found.add("compile")
    for module, name in (("cases", "CASES"), ("policies", "POLICIES")):
        table = getattr(sys.modules.get(module), name, None)  # THE table, not any other of that name
        if table is not None and getattr(item.module, name, None) is table:
            found |= {"battery"} if any(isinstance(each, str) and each in table for each in arguments) else set()
    return found
