"""The packages import one another in one direction: no circle."""

import ast
import functools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import metalit

PACKAGE = Path(metalit.__file__).parent


def room(path):
    """The package, or the module on the ground floor, that a file or an import path belongs to."""
    return path.parts[0].removesuffix(".py")


def imports_of(file):
    """What a file imports of metalit, wherever in it, as paths in the package."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "metalit":
            names = [node.module] if "." in node.module else [f"metalit.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.startswith("metalit.")]
        else:
            continue
        for name in names:
            path = Path(*name.split(".")[1:])
            if (PACKAGE / path.parts[0]).is_dir() or (PACKAGE / f"{path.parts[0]}.py").exists():
                yield path


@functools.cache
def graph():
    found = {}
    for file in PACKAGE.rglob("*.py"):
        path = file.relative_to(PACKAGE)
        if path.parts[0] not in (
            "__init__.py",
            "__main__.py",
        ):  # what the package exports comes from everywhere
            found.setdefault(room(path), set()).update(room(each) for each in imports_of(file))
    return {name: needs - {name} for name, needs in found.items()}


def test_no_circle():
    order = list(TopologicalSorter(graph()).static_order())
    assert order.index("tasks") < order.index("engine") < order.index("algorithms") < order.index("main")


def test_a_circle_would_be_found():
    with pytest.raises(CycleError):
        list(TopologicalSorter({**graph(), "tasks": {"algorithms"}}).static_order())


@pytest.mark.parametrize("name", sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py")))
def test_every_room_states_its_rule(name):
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8")))
    assert "The rule of this room: " in docstring


def test_contributors_are_told_of_every_room():
    guide = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = guide.partition("## Where things are")[2].partition("\n## ")[0]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert {name for name in rooms if f"`{name}`" not in table} == {"algorithms"}  # as algorithms/<family>


@pytest.mark.parametrize(
    ("one", "other"),
    [("networks", "heads"), ("update_rules", "episode"), ("objectives", "algorithms"), ("cli", "cluster")],
)
def test_what_a_room_does_not_see(one, other):
    assert other not in graph()[one]
