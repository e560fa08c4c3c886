"""What is done around every step, at the least cost: a small network's step takes a third of a millisecond."""

import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from types import MethodType
from typing import Any, TypeVar

import lightning as L
import torch
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch.optim import Optimizer

from metalit.tasks.parameters import Params

Step = TypeVar("Step", bound=Callable[..., Any])
NOTHING: AbstractContextManager[None] = nullcontext()
OF_A_STEP = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """Profiles nothing, as Lightning's default does, but with one context for all actions of a step, which are 45."""

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]
        """Return a context that does nothing."""
        return NOTHING


def profile_nothing_fast(trainer: L.Trainer) -> None:
    """Replace the default profiler of a trainer; one that was asked for stays."""
    if type(trainer.profiler) is PassThroughProfiler:  # type: ignore[attr-defined]  # Lightning sets it late
        trainer.profiler = NoProfiler()  # type: ignore[attr-defined]


def skip_idle_hooks(trainer: L.Trainer) -> None:
    """Have a trainer skip those hooks of its callbacks, of a training step, that do nothing.

    Lightning calls six hooks of each of ten callbacks at every step, but none that is None.
    """
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # Lightning sets it late
        for name in OF_A_STEP:
            if getattr(callback, name) == MethodType(getattr(L.Callback, name), callback):
                setattr(callback, name, None)


def with_known_signature(step: Step) -> Step:
    """Store the signature of a training step once: Lightning asks for it at every step."""
    step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    return step


def takes_gradients(trainer: L.Trainer, parameters: Params) -> bool:
    """Whether a finished gradient may be written to the parameters directly, without a backward pass of autograd.

    Several devices average gradients, a scaler unscales them, and hooks of parameters see or change them.

    Args:
        trainer: the trainer, which may be idle.
        parameters: the parameters to train.
    """
    if not trainer.training or trainer.scaler is not None or type(trainer.strategy) is not SingleDeviceStrategy:
        return False
    return not any(each._backward_hooks or each._post_accumulate_grad_hooks for each in parameters.values())


def add_gradient(gradient: Params, parameters: Params, factor: float) -> None:
    """Add a gradient times a factor to that of the parameters, as autograd would.

    Args:
        gradient: the gradient by name.
        parameters: parameters of these names.
        factor: the factor.
    """
    # new tensors: those of different parameters may share memory, and clipping changes gradients in place
    for name, scaled in zip(gradient, torch._foreach_mul(list(gradient.values()), factor), strict=True):
        parameter = parameters[name]
        if scaled.stride() != parameter.stride():  # a fused optimiser goes through both in the order of memory
            scaled = torch.empty_like(parameter).copy_(scaled)
        parameter.grad = scaled if parameter.grad is None else parameter.grad + scaled


def forget_gradient(optimizer: Optimizer) -> None:
    """Set the gradients of an optimiser to None, without what torch wraps around it."""
    if type(optimizer).zero_grad is not Optimizer.zero_grad:
        optimizer.zero_grad()
        return
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = None
