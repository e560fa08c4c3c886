"""Forms that hold a split as one array with labels: pickles in several dialects, and npz."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metalit.data.benchmarks.examples import Examples
from metalit.data.benchmarks.safe_pickle import read_pickle
from metalit.errors import UserError


def entry(content: Any, *keys: str) -> Any:
    """Return the first of some entries of a dict, whose keys may be text or bytes.

    Raises:
        UserError: it is no dict or has none of them.
    """
    if isinstance(content, Mapping):
        for key in keys:
            for spelling in (key, key.encode()):
                if spelling in content:
                    return content[spelling]
    found = (
        f"a dict with {sorted(map(str, content))}" if isinstance(content, Mapping) else f"a {type(content).__name__}"
    )
    raise UserError(f"{found}, expected one with {' or '.join(repr(key) for key in keys)}")


def text(value: Any) -> str:
    """Return text that may be bytes."""
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def as_array(value: Any) -> npt.NDArray[Any]:
    """Return a plain array of an array or list.

    Raises:
        UserError: the parts of a list do not have one shape.
    """
    try:
        return np.asarray(value)
    except ValueError as error:
        raise UserError(f"what should be one array is not ({error})") from error


def integers(value: Any) -> npt.NDArray[np.int64]:
    """Return labels ``[n]`` as integers.

    Raises:
        UserError: they are none.
    """
    found = as_array(value)
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise UserError(f"labels {list(found.shape)} of {found.dtype}, expected integers [n]")
    return found.astype(np.int64)


def read_labelled_pickle(path: Path) -> Examples:
    """Read ``{"data": [n, height, width, 3], "labels": [n]}``, with the classes' names in ``label2catname`` if any."""
    content = read_pickle(path)
    return labelled(content)


def labelled(content: Any) -> Examples:
    """Return the examples of a dict of images and labels."""
    images, labels = as_array(entry(content, "data", "images")), integers(entry(content, "labels", "label"))
    return Examples(images, labels)
