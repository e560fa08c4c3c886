"""Numbers of classes in parquet files of the Hugging Face Hub, and the names behind them."""

import json
from collections.abc import Sequence
from typing import Any

from metalit.errors import UserError


def class_named(names: Sequence[str], number: Any) -> str:
    """Return the class with a number.

    Raises:
        UserError: there is none.
    """
    # -1 is no label, as of test sets whose labels are secret, and not the last class
    if not isinstance(number, int) or not 0 <= number < len(names):
        raise UserError(f"its label is {number}, expected the number of a class from 0 to {len(names) - 1}")
    return names[number]


def class_names(metadata: Any, label: str) -> list[str]:
    """Return the names behind the numbers of a ClassLabel, from the schema; none if labels are names."""
    try:
        return list(json.loads(metadata[b"huggingface"])["info"]["features"][label]["names"])
    except (KeyError, TypeError, ValueError):
        return []
