"""A linear classifier by ridge regression."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.checks import positive
from metalit.functional.distances import membership
from metalit.functional.precision import full_precision
from metalit.functional.ridge import ridge_regression
from metalit.heads.base import Head


class RidgeRegression(Head):
    """Fits one-hot labels by ridge regression, in closed form, and multiplies what it predicts by a factor.

        W = argmin ||X W - Y||^2 + strength ||W||^2,    logits = scale q W

    Args:
        strength: lambda, > 0; its logarithm is what is learned, so that it stays positive.
        scale: the factor, > 0; learned.
        intercept: append a 1 to every embedding.
        learn_strength: whether lambda is meta-learned.

    Raises:
        ValueError: a number that is not positive.
    """

    def __init__(
        self,
        strength: float = 1.0,
        scale: float = 10.0,
        intercept: bool = True,
        learn_strength: bool = True,
    ) -> None:
        super().__init__()
        logarithm = torch.tensor(math.log(positive("strength", strength)))
        self.log_strength = nn.Parameter(logarithm, requires_grad=learn_strength)
        self.scale = nn.Parameter(torch.tensor(float(positive("scale", scale))))
        self.intercept = intercept

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return logits ``[Q, N]``."""
        targets = membership(support.y, ways, support.x).mT
        return self.fit(support.x, targets, query)

    @full_precision
    def fit(self, x: Tensor, targets: Tensor, query: Tensor) -> Tensor:
        """Return the predictions ``[Q, N]`` of what is fitted to ``[S, D]`` and targets ``[S, N]``."""
        if self.intercept:
            x, query = (F.pad(embeddings, (0, 1), value=1.0) for embeddings in (x, query))
        return self.scale * query @ ridge_regression(x, targets, self.log_strength.exp())
