"""Vector operations on parameters: all tensors of a mapping are taken together as one vector."""

import torch
from torch import Tensor

from metalit.tasks.parameters import Params


def inner_product(one: Params, other: Params) -> Tensor:
    """Return the inner product over all entries, 0-d."""
    return torch.stack([(value * other[name]).sum() for name, value in one.items()]).sum()


def norm(vector: Params) -> Tensor:
    """Return the Euclidean norm over all entries, 0-d."""
    return inner_product(vector, vector).sqrt()


def combine(one: Params, factor: Tensor | float, other: Params) -> Params:
    """Return one + factor * other, by name."""
    return {name: value + factor * other[name] for name, value in one.items()}
