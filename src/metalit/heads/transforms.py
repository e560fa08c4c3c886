"""Transformations of embeddings before a head sees them: power transform, centring, unit length."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import UserError, at_least, check
from metalit.functional.preprocessing import signed_root
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision

Step = Literal["power", "centre", "l2"]
CENTRE = "head.transform.centre"  # name of the centre in a learner whose head is ``Transformed``


class EmbeddingTransform(nn.Module):
    """Steps that are applied to embeddings ``[n, D]`` one after the other.

        power:   x -> sign(x) sqrt(|x|)      against skewed features, such as those after a ReLU
        centre:  x -> x - centre             against a direction that all embeddings share
        l2:      x -> x / |x|                against lengths that say little about the class

    SimpleShot's L2N is ``[l2]`` and its CL2N ``[centre, l2]``.

    Args:
        steps: the steps in their order.
        features: D, needed for ``centre``.
        momentum: weight of a new batch in the running mean that the method keeps in ``centre`` during training, above 0
            and at most 1.

    Attributes:
        centre: ``[D]``, a buffer of zeros that the method fills with the mean of the training embeddings, as they are
            before that step; None if D is not given. It is kept without the step too, which a test may then add.

    Raises:
        UserError: an unknown step, one that is there twice, or ``centre`` without ``features``.
    """

    centre: Tensor | None

    def __init__(self, steps: Sequence[Step] = (), features: int | None = None, momentum: float = 0.01) -> None:
        super().__init__()
        known = set(steps) <= {"power", "centre", "l2"} and len(set(steps)) == len(steps)
        check("transform", list(steps), known, "some of power, centre and l2, each at most once, in their order")
        check("momentum", momentum, 0 < momentum <= 1, "a number in (0, 1]")
        if "centre" in steps and features is None:
            raise UserError("a transform with the step centre has to know the length of an embedding: give features")
        self.steps, self.momentum = tuple(steps), momentum
        at_least(1, features=features)
        # a buffer, so that it is saved with the model
        self.register_buffer("centre", None if features is None else torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        """Return the transformed embeddings ``[n, D]``."""
        return self.applied(x, self.steps)

    def before_centring(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` as they are before the step ``centre``; unchanged without it."""
        return self.applied(x, self.steps[: self.steps.index("centre")] if "centre" in self.steps else ())

    @full_precision
    def applied(self, x: Tensor, steps: Sequence[Step]) -> Tensor:
        """Return embeddings ``[n, D]`` after some of the steps."""
        for step in steps:
            if step == "power":
                x = signed_root(x)
            elif step == "l2":
                x = F.normalize(x, dim=-1)
            elif self.centre is not None:
                x = x - self.centre
        return x


class Transformed(Head):
    """A head that sees transformed embeddings.

    Args:
        head: sees embeddings ``[n, D]`` after the transformation.
        transform: applied to support and query embeddings.
    """

    def __init__(self, head: Head, transform: EmbeddingTransform) -> None:
        super().__init__()
        self.head, self.transform = head, transform
        self.transductive, self.honours_masks = head.transductive, head.honours_masks
        self.classifies, self.regresses = head.classifies, head.regresses

    def fit(self, support: Labelled, ways: int) -> Any:
        """Return what the head makes of the transformed support set."""
        return self.head.fit(support._replace(x=self.transform(support.x)), ways)

    def classify(self, fitted: Any, query: Tensor) -> Tensor:
        """Return the head's logits ``[Q, N]`` of transformed queries."""
        return self.head.classify(fitted, self.transform(query))
