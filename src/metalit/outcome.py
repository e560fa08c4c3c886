"""What a learner says about a batch of tasks."""

from typing import NamedTuple

from torch import Tensor

from metalit.functional.parameters import Params


class Outcome(NamedTuple):
    """The result of every task; for one task without the axis B.

    Attributes:
        loss: ``[B]`` query loss after adaptation.
        predictions: ``[B, Q, ...]`` query predictions: logits ``[B, Q, N]`` or values ``[B, Q, outputs]``.
        buffers: new running statistics as each task would have them, ``[B, channels]`` by buffer name.
    """

    loss: Tensor
    predictions: Tensor
    buffers: Params = {}  # noqa: RUF012  # never written to: an outcome is a value
