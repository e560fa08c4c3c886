"""Errors as data."""

import math
import pickle
import re
from pathlib import Path

import pytest

import metalit
from metalit.errors import SettingError, UserError, at_least, check, not_negative, positive


def test_a_setting_error_is_data_and_a_sentence():
    error = SettingError("inner_steps", -1, "at least 0", owner=dict)
    assert (error.name, error.value, error.expected, error.owner) == ("inner_steps", -1, "at least 0", dict)
    assert str(error) == "inner_steps is -1, expected at least 0"
    assert isinstance(error, UserError)
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), vars(again)) == (SettingError, vars(error))


@pytest.mark.parametrize(
    ("refuse", "name", "value"),
    [
        (lambda: positive("lr", 0.0), "lr", 0.0),
        (lambda: positive("lr", math.inf), "lr", math.inf),
        (lambda: not_negative("weight", -0.5), "weight", -0.5),
        (lambda: at_least(2, shots=None, ways=1), "ways", 1),
        (lambda: check("dropout", 1.0, False, "a number in [0, 1)"), "dropout", 1.0),
    ],
)
def test_checks_name_the_setting_and_what_was_found(refuse, name, value):
    with pytest.raises(SettingError) as caught:
        refuse()
    assert (caught.value.name, caught.value.value, caught.value.owner) == (name, value, None)


def test_checks_return_what_is_right():
    assert (positive("lr", 0.1), not_negative("weight", 0), at_least(1, ways=5, shots=None)) == (0.1, 0, None)


def test_messages_for_users_are_user_errors():
    package = Path(metalit.__file__).parent
    bare = [
        f"{path.name}:{number}"
        for path in package.rglob("*.py")
        if path.parent.name != "cli"  # which turns its own into sentences before anybody sees them
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"(?:raise|return) ValueError\(", line)
    ]
    assert bare == []
