"""Episodes: batches of few-shot tasks, the one data type that all parts of metalit exchange.

Legend for every shape in this package:
    B tasks in a meta-batch, N ways, K shots per class, S = N*K support examples, Q query examples per task.
"""

from typing import Any, NamedTuple

from torch import Tensor


class Tokens(NamedTuple):
    """Texts as token ids, padded to one length: the inputs of an episode of texts.

    Attributes:
        ids: ``[..., n, T]`` int64, >= 0; 0 where there is no token.
        mask: ``[..., n, T]`` bool, True where there is a token; each text has at least one, and the first T_i places.
    """

    ids: Tensor
    mask: Tensor


class MarkedTokens(NamedTuple):
    """Texts with two marked places each, such as the entities of a relation.

    Attributes:
        ids: as in ``Tokens``.
        mask: as in ``Tokens``.
        spans: ``[..., n, 2]`` int64, positions along T of the two marks.
    """

    ids: Tensor
    mask: Tensor
    spans: Tensor


class Labelled(NamedTuple):
    """Examples with their labels.

    Attributes:
        x: inputs, ``[B, n, *features]``, or a pytree of such tensors (``Tokens``), which is passed to the network
            unchanged.
        y: labels; ``[B, n]`` int64 in ``0..N-1`` for classification, ``[B, n, outputs]`` float for regression.
    """

    x: Any
    y: Tensor


class Episode(NamedTuple):
    """A meta-batch: B tasks, each with a support set to learn from and a query set to be evaluated on.

    All members are pytrees of tensors whose first axis is the task axis B, so that ``torch.func.vmap`` maps over tasks.

    Attributes:
        support: support examples, ``[B, S, ...]``.
        query: query examples, ``[B, Q, ...]``.
        index: ``[B]`` int64, the index of each task in the stream of its split, >= 0. It determines a task's random
            numbers and identifies the task in evaluations and messages, so tasks of a split must have distinct indices.
            For an episode made by hand use ``torch.arange(B)``.
    """

    support: Labelled
    query: Labelled
    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which is of no use for tensors
