"""The functions behind the sentences about mistakes."""

import errno

import pytest
import torch
from jsonargparse import ArgumentParser, Namespace
from lightning import Trainer

from metalit.algorithms import MAML
from metalit.cli.errors import explain_error, innermost, key_of, make, set_owner
from metalit.cli.mistakes import causes, found_value, nearest_option
from metalit.cli.values import describe, nearest
from metalit.errors import SettingError
from metalit.networks import MLP
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
    assert innermost(wrapped) is wrapped  # nothing says that a class raised the inner one
    with pytest.raises(ValueError, match="inner_steps"):
        make(raising, raised)
    assert innermost(wrapped) is raised
    assert list(causes(wrapped)) == [wrapped, raised]
    assert list(causes(None)) == []


def raising(error):
    raise error


def settings():
    """A model with two networks of one class, and a trainer, as the parser has them."""
    inner = {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 3, "hidden": [4]}}
    classifier = {"class_path": "metalit.networks.Classifier", "init_args": {"body": inner, "ways": 5}}
    model = {"class_path": "metalit.algorithms.MAML", "init_args": {"network": classifier, "inner_lr": 0.1}}
    return namespace({"model": model, "trainer": {"max_steps": -5, "callbacks": None}})


def namespace(value):
    return Namespace(**{key: namespace(each) for key, each in value.items()}) if isinstance(value, dict) else value


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (SettingError("inputs", 3, "1", owner=MLP), "model.network.body.inputs"),
        (SettingError("inner_lr", 0.1, "1", owner=MAML), "model.inner_lr"),
        (SettingError("data.ways", 3, "5"), "data.ways"),
        (SettingError("rate", 3, "5", owner=MLP), None),
        (SettingError("inputs", 3, "5"), None),
    ],
)
def test_a_setting_is_found_by_the_class_that_has_it(error, key):
    assert key_of(error, settings()) == key


def test_of_an_error_of_others_the_option_is_named_if_it_says_which():
    error = ValueError("`max_steps` must be at least -1. You passed in -5")
    assert key_of(error, settings()) is None
    set_owner(error, Trainer)
    assert key_of(error, settings()) == "trainer.max_steps"
    vague = ValueError("this cannot be")
    set_owner(vague, Trainer)
    set_owner(vague, MLP)  # the innermost stays
    assert key_of(vague, settings()) == "trainer"


def test_a_number_of_the_operating_system_accuses_no_option():
    full = OSError(errno.ENOSPC, "No space left on device")
    said = explain_error(full, Namespace(run_dir="here", image_size=28), ArgumentParser())
    assert said.startswith("run_dir: here cannot be written (No sp")
    missing = FileNotFoundError(errno.ENOENT, "No such file or directory", "there")
    assert explain_error(missing, Namespace(run_dir="here"), ArgumentParser()) == "there: No such file or directory"


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
