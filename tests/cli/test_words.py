"""The functions behind the sentences about mistakes."""

import errno

import torch
from jsonargparse import ArgumentParser, Namespace

from metalit.cli.errors import blamed, causes, explain_error, found_value, innermost, named, nearest_option
from metalit.cli.values import describe, nearest
from metalit.runs import check_checkpoint


def test_found_value():
    assert found_value("Expected a <class 'int'>. Got value: five") == "five"
    assert found_value("Expected\nGiven value: {'a': 1}\nmore") == "{'a': 1}"
    assert found_value("Given value: NestedArg(key='ways', val='3.5')") == "3.5"
    assert found_value("Expected a <class 'int'>. Got value: None") == "null"
    assert found_value("nothing of the kind") is None


def test_innermost_is_what_the_class_raised():
    raised = ValueError("inner_steps is -1")
    wrapped = ValueError("Does not validate against any of the Union subtypes")
    wrapped.__cause__ = raised
    assert innermost(wrapped) is raised
    assert innermost(raised) is raised
    assert list(causes(wrapped)) == [wrapped, raised]
    assert list(causes(None)) == []


def test_named_takes_the_option_of_that_value():
    values = {"data.ways": "5", "data.train_ways": "60", "model.network.ways": "5"}
    assert named("ways", "5", values) == "data.ways"
    assert named("data.ways", "5", values) == "data.ways"
    assert named("ways", "60", values) == "data.train_ways"
    assert named("ways", "7", values) is None


def test_blamed_accuses_nobody_without_evidence():
    values = {
        "trainer.max_steps": "-5",
        "trainer.max_epochs": "7",
        "model.lr": "0.5",
        "data.a": "0",
        "data.b": "True",
    }
    assert blamed("`max_steps` must be at least -1. You passed in -5", values) == "trainer.max_steps"
    assert blamed("0.5 is too much", values) == "model.lr"
    assert blamed("max_epochs and max_steps", values) is None
    assert blamed("0 is no value, and True is none", values) is None
    assert blamed("something else", values) is None


def test_blamed_takes_the_option_whose_value_is_said_last():
    values = {"checkpoint.mode": "min", "trainer.callbacks.mode": "sideways"}
    assert blamed("`mode` can be min, max, got sideways", values) == "trainer.callbacks.mode"


def test_a_number_of_the_operating_system_accuses_no_option():
    config = {"subcommand": "fit", "fit": Namespace(run_dir="here", image_size=28)}
    full = OSError(errno.ENOSPC, "No space left on device")
    assert explain_error(full, config, ArgumentParser(), own=False).startswith(
        "run_dir: here cannot be written (No sp"
    )
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "there")
    assert explain_error(missing, config, ArgumentParser(), own=False) == "there: No such file or directory"


def test_nearest_option():
    known = ["trainer", "trainer.max_steps", "checkpoint", "checkpoint.mode", "model"]
    assert nearest_option("mode", known) == "checkpoint.mode"
    assert nearest_option("trainer.zzz", known) is None
    assert nearest_option("trainer.max_step", known) == "trainer.max_steps"


def test_describe():
    assert describe(int | None) == "a whole number or null"
    assert describe(list[int] | str) == "a list (each a whole number) or text"
    assert describe(torch.Tensor | float) == "a number"


def test_nearest():
    assert nearest("glyfs", ["Omniglot", "Glyphs"]) == "Glyphs"
    assert nearest("zzz", ["Omniglot", "Glyphs"]) is None


def test_check_checkpoint_without_one_does_nothing():
    check_checkpoint(None, torch.nn.Linear(1, 1))
