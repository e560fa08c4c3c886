"""Numerically sensitive computations under mixed precision: without autocast, in at least float32."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map_only

P = ParamSpec("P")
R = TypeVar("R")


def under_autocast(device: torch.device) -> bool:
    """Return whether autocast is enabled for a device; False for devices without autocast, such as ``meta``."""
    # is_autocast_enabled raises for a device without autocast, hence the first condition
    return torch.amp.is_autocast_available(device.type) and torch.is_autocast_enabled(device.type)


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context that disables autocast: operations keep the precision of their inputs."""
    if not under_autocast(device):
        return nullcontext()  # entering torch.autocast takes a noticeable share of a small network's step
    return torch.autocast(device.type, enabled=False)


def at_least_float32(values: Tensor) -> Tensor:
    """Return half-precision tensors as float32, and all others unchanged."""
    wider = values.is_floating_point() and values.dtype.itemsize < torch.float32.itemsize
    return values.float() if wider else values


def full_precision(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function of tensors so that it computes in at least float32 under autocast.

    Sums of squares, means and losses over many numbers lose digits in half precision and overflow above 65504 in
    float16. Solvers that need float64 convert inside the function.
    """

    @wraps(function)
    def precise(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(leaf.device for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor))
        if not under_autocast(device):
            return function(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, at_least_float32, (args, kwargs))
        with without_autocast(device):
            return function(*args, **kwargs)

    return precise
