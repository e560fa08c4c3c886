"""What a learner says about a batch of tasks."""

from typing import NamedTuple

from torch import Tensor

from metalit.tasks.parameters import Params


class Outcome(NamedTuple):
    """The result of every task; for one task without the axis B.

    Attributes:
        loss: ``[B]`` query loss after adaptation.
        predictions: ``[B, Q, ...]`` query predictions: logits ``[B, Q, N]`` or values ``[B, Q, outputs]``.
        buffers: new running statistics as each task would have them, ``[B, channels]`` by buffer name.
        measured: what the objective wanted to know of each task, ``[B, ...]`` by name; numbers, ``[B]``, are logged.
        penalties: terms of the method's own, ``[B]`` by name: their means are added to any objective, and logged.
    """

    loss: Tensor
    predictions: Tensor
    buffers: Params = {}  # noqa: RUF012  # never written to: an outcome is a value
    measured: Params = {}  # noqa: RUF012
    penalties: Params = {}  # noqa: RUF012
