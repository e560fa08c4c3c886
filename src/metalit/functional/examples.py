"""Operations on pytrees of tensors with the examples first: images, or token ids with their mask."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map


def count(examples: Any) -> int:
    """Return the number of examples in a pytree."""
    return len(tree_leaves(examples)[0])


def joined(*parts: Any) -> Any:
    """Return the examples of all parts, concatenated."""
    return tree_map(lambda *leaves: torch.cat(leaves), *parts)


def split(examples: Any, first: int) -> tuple[Any, Any]:
    """Return the first ``first`` examples and the remaining ones."""
    return tree_map(lambda leaf: leaf[:first], examples), tree_map(lambda leaf: leaf[first:], examples)


def selected(examples: Any, rows: Tensor) -> Any:
    """Return the examples at the indices ``rows`` ``[m]``, in that order."""
    return tree_map(lambda leaf: leaf.index_select(0, rows), examples)


def one_per_example(examples: Any) -> Tensor:
    """Return zeros ``[n]`` on the examples' device, a template for drawing a number per example by ``uniform_like``."""
    leaf = tree_leaves(examples)[0]
    return torch.zeros(len(leaf), device=leaf.device)


def to_unit_interval(examples: Any, dtype: torch.dtype | None = None) -> Any:
    """Scale uint8 images to floats in [0, 1]; other tensors are returned unchanged.

    Args:
        examples: a pytree of tensors.
        dtype: dtype of the floats; torch's default dtype if not given.
    """

    def scaled(leaf: Tensor) -> Tensor:
        if leaf.dtype != torch.uint8:
            return leaf
        return leaf.to(dtype or torch.get_default_dtype()).div_(255)  # in place: leaf.to has made a copy already

    return tree_map(scaled, examples)
