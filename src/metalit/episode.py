"""The one kind of value that flows through metalit: a batch of few-shot tasks.

Legend for every shape in this package:
    B tasks in a meta-batch, N ways, K shots per class, S = N*K support examples, Q query examples per task.
"""

from typing import Any, NamedTuple

from torch import Tensor


class Labelled(NamedTuple):
    """Examples with their labels.

    Attributes:
        x: inputs, ``[B, n, *features]``, or a pytree of such tensors (token ids and their mask), which the network is
            given as it is.
        y: labels; ``[B, n]`` int64 in ``0..N-1`` for classification, ``[B, n, outputs]`` float for regression.
    """

    x: Any
    y: Tensor


class Episode(NamedTuple):
    """A meta-batch: B tasks, each with a support set to learn from and a query set to be judged on.

    All members are pytrees of tensors whose first axis is the task axis B, so ``torch.func.vmap`` maps over tasks.

    Attributes:
        support: ``[B, S, ...]``.
        query: ``[B, Q, ...]``.
        index: ``[B]`` int64, each task's number in the stream of its split, >= 0. The randomness within a task, the
            values of an evaluation and all messages go by it, so different tasks of a split have different numbers;
            ``torch.arange(B)`` serves for an episode made by hand.
    """

    support: Labelled
    query: Labelled
    index: Tensor  # type: ignore[assignment]  # hides a method of tuples that no tensor could serve
