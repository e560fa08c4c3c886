"""Linear classifiers by a solver: ridge regression and the support vector machine."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import at_least, positive
from metalit.functional.crammer_singer import crammer_singer
from metalit.functional.distances import membership
from metalit.functional.ridge import identity_like, ridge_regression
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision


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

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return W, ``[D, N]``; with an intercept ``[D + 1, N]``."""
        targets = membership(support.y, ways, support.x).mT
        return ridge_regression(self.extended(support.x), targets, self.log_strength.exp())

    @full_precision
    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``."""
        return self.scale * self.extended(query) @ fitted

    def extended(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` with a 1 appended where there is an intercept."""
        return F.pad(x, (0, 1), value=1.0) if self.intercept else x


class SupportVectorMachine(Head):
    """Fits a multi-class linear support vector machine (Crammer and Singer 2001); a factor multiplies its scores.

    The kernel is X X' + I, so that the solution is unique. Each iteration solves one system of (N + 1) S equations, for
    the N variables and the multiplier of each support example: it is for small support sets.

    Args:
        cost: C, of a margin that is violated; > 0.
        scale: the factor, > 0; learned.
        iterations: of the solver, >= 1.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(self, cost: float = 0.1, scale: float = 1.0, iterations: int = 15) -> None:
        super().__init__()
        at_least(1, iterations=iterations)
        self.cost, self.iterations = positive("cost", cost), iterations
        self.scale = nn.Parameter(torch.tensor(float(positive("scale", scale))))

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the weights of each class, ``[D, N]``."""
        x, members = support.x, membership(support.y, ways, support.x).mT
        coefficients = crammer_singer(x @ x.mT + identity_like(x), members, self.cost, self.iterations)
        weights: Tensor = x.mT @ coefficients
        return weights

    @full_precision
    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the scaled scores ``[Q, N]``."""
        return self.scale * query @ fitted
