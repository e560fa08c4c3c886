"""What the user gave on the command line, read: examples with their names and, if they have them, their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Given:
    """Examples from files of the user.

    Attributes:
        items: ``[n, ...]`` as the data module of the training keeps them: uint8 images, or token ids.
        names: ``n`` times what results call the example: the name of its file, or the text itself.
        labels: ``n`` class names, an empty one where the example has none; or none at all.
        left_out: one line for each that could not be used: what it is, and the reason.
        remarks: what else the user should know of them, a line each.
        pictures: ``[n, 3, height, width]`` uint8, to be drawn; None for what has no picture.
    """

    items: Any
    names: Sequence[str]
    labels: Sequence[str] = ()
    left_out: Sequence[str] = ()
    remarks: Sequence[str] = ()
    pictures: Tensor | None = None
