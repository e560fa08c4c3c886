"""Examples as pytrees of tensors with the axis of examples first: images, or token ids with their mask."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def count(examples: Any) -> int:
    """Return how many examples a pytree holds."""
    return len(tree_leaves(examples)[0])


def joined(*parts: Any) -> Any:
    """Return the examples of all parts, one part after another."""
    return tree_map(lambda *leaves: torch.cat(leaves), *parts)


def split(examples: Any, first: int) -> tuple[Any, Any]:
    """Return the first examples and the others."""
    return tree_map(lambda leaf: leaf[:first], examples), tree_map(lambda leaf: leaf[first:], examples)


def selected(examples: Any, rows: Tensor) -> Any:
    """Return the examples with these numbers ``[m]``, in that order."""
    return tree_map(lambda leaf: leaf.index_select(0, rows), examples)


def one_per_example(examples: Any) -> Tensor:
    """Return zeros ``[n]`` on the examples' device, for ``uniform_like`` to draw a number per example."""
    leaf = tree_leaves(examples)[0]
    return torch.zeros(len(leaf), device=leaf.device)


def to_unit_interval(examples: Any, dtype: torch.dtype | None = None) -> Any:
    """Scale images in uint8 to floats in [0, 1], and leave any other tensor as it is.

    Args:
        examples: a pytree.
        dtype: of the floats; torch's default dtype if not given.
    """

    def scaled(leaf: Tensor) -> Tensor:
        if leaf.dtype != torch.uint8:
            return leaf
        return leaf.to(dtype or torch.get_default_dtype()).div_(255)

    return tree_map(scaled, examples)
