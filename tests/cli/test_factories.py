"""A function in place of a network's class: with and without arguments and types, in files and on the command line."""

import re
import sys

import pytest
import yaml

from commands import changed, complaint, maml, write_yaml
from metalit.cli import MetalitCLI
from metalit.main import main

NETWORK = "model.init_args.network"
CODE = """
from __future__ import annotations
from functools import partial, wraps
from typing import TYPE_CHECKING, Any
from torch import nn
if TYPE_CHECKING:
    from nowhere import Type

def typed(ways: int = 5, hidden: int = 3) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, hidden), nn.Linear(hidden, ways))

def same(function):
    @wraps(function)
    def call(*args, **options):
        return function(*args, **options)
    return call

def bare():
    return typed()

def untyped(hidden=3, **options):
    return typed(hidden=hidden, **options)

def of_ways(ways, hidden=3):
    return typed(ways, hidden)

def of_typed_ways(ways: int, hidden: int = 3) -> nn.Sequential:
    return typed(ways, hidden)

def any_type(hidden: int = 3) -> Any:
    return typed(hidden=hidden)

def for_checkers(hidden: int = 3) -> Type:
    return typed(hidden=hidden)

@same
def decorated(hidden: int = 3):
    return typed(hidden=hidden)

class Makers:
    @staticmethod
    def static(hidden: int = 3):
        return typed(hidden=hidden)

    @classmethod
    def of_class(cls, hidden: int = 3):
        return typed(hidden=hidden)

def needs(width, depth: int):
    return nn.Linear(width, depth)

def number():
    return 3

def typed_number() -> int:
    return 3

half = partial(typed, hidden=4)
"""
FUNCTIONS = (
    "bare",
    "untyped",
    "typed",
    "any_type",
    "for_checkers",
    "decorated",
    "Makers.static",
    "Makers.of_class",
)


@pytest.fixture(autouse=True)
def mine(tmp_path, monkeypatch):
    """A module of the user's own."""
    (tmp_path / "mine.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    yield
    sys.modules.pop("mine", None)


def made(args, monkeypatch):
    """The network that a command line makes."""
    with monkeypatch.context() as patch:
        patch.setattr(MetalitCLI, "_run_subcommand", lambda *_: None)
        return MetalitCLI(args).model.network


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_in_a_file(name, tmp_path, monkeypatch):
    spec = {"class_path": f"mine.{name}"} | ({} if name == "bare" else {"init_args": {"hidden": 2}})
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: spec}))
    network = made(["fit", "--config", config, "--run_dir", str(tmp_path / "run")], monkeypatch)
    assert network[1].out_features == (3 if name == "bare" else 2)


@pytest.mark.parametrize("name", ["of_ways", "of_typed_ways", "typed"])
def test_ways_follow_the_datas(name, tmp_path, monkeypatch):
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: None}))
    args = ["--model.network", f"mine.{name}", "--model.network.hidden", "4", "--data.ways", "3"]
    network = made(["fit", "--config", config, *args, "--run_dir", str(tmp_path / "run")], monkeypatch)
    assert list(network[2].weight.shape) == [3, 4]


def test_a_run_from_a_function_can_be_tested(tmp_path):
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: {"class_path": "mine.of_ways"}}))
    run = ["--run_dir", str(tmp_path / "run")]
    main(["fit", "--config", config, *run, "--data.ways", "3", "--trainer.max_steps", "1"])
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]["init_args"]["network"]
    assert saved == {"class_path": "mine.of_ways", "init_args": {"hidden": 3}}
    main(["test", "--config", str(tmp_path / "run" / "config.yaml"), *run, "--ckpt_path", "last"])


def test_function_within_a_network(tmp_path, monkeypatch):
    spec = {
        "class_path": "metalit.networks.Classifier",
        "init_args": {"body": {"class_path": "mine.bare"}, "features": 5},
    }
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: spec}))
    network = made(["fit", "--config", config, "--run_dir", str(tmp_path / "run")], monkeypatch)
    assert network.body[1].out_features == 3


MISTAKES = {
    "untyped argument": (
        ["needs", "--model.network.depth", "3"],
        "model.network.width: not given, but needs needs it; expected any value",
    ),
    "typed argument": (
        ["needs", "--model.network.width", "3"],
        "model.network.depth: not given, but needs needs it; expected a whole number",
    ),
    "misspelt argument": (
        ["typed", "--model.network.hiden", "3"],
        "model.network.hiden: typed has no such option; did you mean model.network.hidden?",
    ),
    "wrong type": (
        ["typed", "--model.network.hidden", "x"],
        "model.network.hidden: found x, expected a whole number",
    ),
    "returns a number": (
        ["number"],
        "model.network.class_path is mine.number, expected a function that returns a network (torch.nn.Module), not 3",
    ),
    "says so": (
        ["typed_number"],
        "model.network: mine.typed_number is another kind of class; expected a Module",
    ),
    "partial": (
        ["half"],
        "model.network: found mine.half, a functools.partial; expected a class or a function, written with def",
    ),
    "misspelt": (["nothing"], "model.network: there is no class mine.nothing; expected a Module"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake(name, tmp_path, capsys):
    (function, *options), words = MISTAKES[name]
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {NETWORK: None}))
    args = ["--model.network", f"mine.{function}", *options, "--run_dir", str(tmp_path / "run")]
    assert complaint(capsys, lambda: main(["fit", "--config", config, *args])).startswith(words)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import torch\nimport not_there\n", "No module named 'not_there' .*line 2"),
        ("import importlib\nimportlib.import_module('not_there')\n", "No module named 'not_there' .*line 2"),
        ("import torch\ndef net(:\n", "invalid syntax .*line 2"),
        ("number = undefined\n", "name 'undefined' is not defined .*line 1"),
    ],
)
def test_a_module_that_fails_to_import_is_named_with_the_line(content, words, tmp_path, monkeypatch, capsys):
    name = f"fails_{abs(hash(content))}"
    (tmp_path / f"{name}.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {"model.init_args.network": f"{name}.Net"}))
    line = complaint(capsys, lambda: main(["fit", "--config", config]))
    assert re.match(f"model.network: cannot import {name}: {words}", line), line
