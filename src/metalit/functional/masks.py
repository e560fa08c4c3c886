"""Means and selections over the examples of a padded task, whose mask tells them from padding."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from metalit.episode import Labelled, labelled
from metalit.functional.examples import joined


def without_padding(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return values ``[n, ...]`` with zeros where ``mask [n]`` is False; the values themselves if there is no mask.

    Unlike a product with the mask, it removes NaN, and passes none on to the gradient.
    """
    if mask is None:
        return values
    return torch.where(mask.reshape(-1, *[1] * (values.dim() - 1)), values, torch.zeros_like(values))


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Return the mean ``[...]`` of values ``[n, ...]`` over the places where ``mask [n]`` is True, at least one."""
    return values.mean(dim=0) if mask is None else without_padding(values, mask).sum(dim=0) / mask.sum()


def count_examples(mask: Tensor | None, places: int) -> Tensor | int:
    """Return the number of examples at ``places`` places, a 0-d tensor if there is a mask."""
    return places if mask is None else mask.sum()


def mask_of(examples: Labelled) -> Tensor:
    """Return the mask of examples, ``[n]`` bool: all True if they have none."""
    y = examples.y
    return torch.ones(y.shape[:1], dtype=torch.bool, device=y.device) if examples.mask is None else examples.mask


def together(support: Labelled, query: Labelled) -> Labelled:
    """Return the examples of both sets of ONE task, support first, with a mask if one of them has a mask."""
    x: Any = joined(support.x, query.x)
    y = torch.cat([support.y, query.y])
    if support.mask is None and query.mask is None:
        return labelled(x, y)
    return labelled(x, y, torch.cat([mask_of(support), mask_of(query)]))


def filled(examples: Labelled) -> Labelled:
    """Return the examples of ONE task with copies of the first one in place of padding.

    The zeros of padding may be no input of a network: a text without a token, a graph without a node, or a vector whose
    length has no second derivative. Its outputs there have no effect, but NaN in them would reach the gradient.
    """
    mask = examples.mask
    if mask is None:
        return examples

    def fill(leaf: Tensor) -> Tensor:
        return torch.where(mask.reshape(-1, *[1] * (leaf.dim() - 1)), leaf, leaf[:1])

    return examples._replace(x=tree_map(fill, examples.x))


def real_examples(examples: Labelled) -> Labelled:
    """Return the examples of ONE task without padding, as ``Labelled``."""
    if examples.mask is None:
        return examples
    x, y = tree_map(lambda leaf: leaf[examples.mask], (examples.x, examples.y))
    return labelled(x, y)
