"""The outcome of tasks: what the function of a task returns to the engine and to the objective."""

from typing import NamedTuple

from torch import Tensor

from metalit.tasks.parameters import Params


class Outcome(NamedTuple):
    """The results of B tasks; the outcome of a single task lacks the axis B.

    Attributes:
        loss: query loss after adaptation, ``[B]``; from ``evaluate`` at each of T stages, ``[B, T]``.
        predictions: query predictions: logits ``[B, Q, N]`` or values ``[B, Q, outputs]``; from ``evaluate``
            ``[B, T, Q, ...]``.
        buffers: new running statistics according to each task, ``[B, channels]`` by buffer name.
        measured: results of the objective's ``measure`` per task, ``[B, ...]`` by name; scalars ``[B]`` are logged.
        penalties: the method's own loss terms, ``[B]`` by name. Their means are added to any objective, and logged.
    """

    loss: Tensor
    predictions: Tensor
    buffers: Params = {}  # noqa: RUF012  # never written to: an outcome is a value
    measured: Params = {}  # noqa: RUF012
    penalties: Params = {}  # noqa: RUF012
