"""A linear support vector machine."""

import torch
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.functional.checks import at_least, positive
from metalit.functional.crammer_singer import crammer_singer
from metalit.functional.distances import membership
from metalit.functional.precision import full_precision
from metalit.functional.ridge import identity_like
from metalit.heads.base import Head


class SupportVectorMachine(Head):
    """Fits a multi-class linear support vector machine (Crammer and Singer 2001); a factor multiplies its scores.

    The kernel is X X' + I, so that the solution is unique. Systems of (N - 1) S equations are solved: it is for small
    support sets.

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
