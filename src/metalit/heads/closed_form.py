"""Linear classifiers fitted by a solver: ridge regression and the support vector machine."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import Labelled
from metalit.errors import at_least, positive
from metalit.functional.crammer_singer import crammer_singer
from metalit.functional.distances import membership
from metalit.functional.masks import without_padding
from metalit.functional.ridge import identity_like, ridge_regression
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision


class RidgeRegression(Head):
    """Ridge regression in closed form. On one-hot labels, its predictions times a scale are the logits.

        W = argmin ||X W - Y||^2 + strength ||W||^2,    logits = scale q W,    values in regression = q W

    Args:
        strength: lambda before training, > 0; learned through its logarithm, which keeps it positive.
        scale: factor of the predictions before training, > 0; learned. Not used in regression.
        intercept: append a 1 to every embedding.
        learn_strength: whether lambda is meta-learned.

    Raises:
        SettingError: a number is not positive.
    """

    regresses = True
    honours_masks = True

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
        """Return W times the scale, ``[D, N]``, or ``[D + 1, N]`` with an intercept; in regression W itself."""
        # Lambda is that of the paper's equation 4. The authors' code divides X and Y by sqrt(S), which multiplies
        # lambda by S. Their learned number that is added to all logits is left out, as the softmax ignores it.
        regression = support.y.is_floating_point()
        targets = support.y if regression else membership(support.y, ways, support.x).mT
        weight = ridge_regression(self.extended(support.x), targets, self.log_strength.exp(), support.mask)
        # W is fitted to targets of 0 and 1; the scale turns its predictions into logits. Values need no scale: a factor
        # of 1 that gives it a gradient of zero, which the optimiser expects of every parameter.
        return weight * (1 + 0 * self.scale if regression else self.scale)

    @full_precision
    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``; in regression, values ``[Q, outputs]``."""
        return self.extended(query) @ fitted

    def extended(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]``, with a 1 appended to each if the head has an intercept."""
        # the intercept is thus one more weight and is regularised like the others
        return F.pad(x, (0, 1), value=1.0) if self.intercept else x


class SupportVectorMachine(Head):
    """A multi-class linear support vector machine (Crammer and Singer 2001); its scores times a scale are the logits.

    The kernel is X X' + I, which makes the solution unique. Each iteration of the solver solves one linear system of
    (N + 1) S equations (N dual variables and one multiplier per support example), so support sets should be small.

    Args:
        cost: C, the penalty of margin violations, > 0.
        scale: factor of the scores before training, > 0; learned.
        iterations: iterations of the solver, >= 1.

    Raises:
        SettingError: a number is out of range.
    """

    honours_masks = True

    def __init__(self, cost: float = 0.1, scale: float = 1.0, iterations: int = 15) -> None:
        super().__init__()
        # fixed, not until convergence, so that tasks can be solved side by side; 15 leave a duality gap of about 1e-11
        at_least(1, iterations=iterations)
        self.cost, self.iterations = positive("cost", cost), iterations
        self.scale = nn.Parameter(torch.tensor(float(positive("scale", scale))))

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Tensor:
        """Return the weight vector of each class, ``[D, N]``."""
        # padding at the origin has coefficients of its own, which neither meet the others nor enter the weights
        x, members = without_padding(support.x, support.mask), membership(support.y, ways, support.x).mT
        # X X' alone is singular if S > D; the authors' code adds I as well
        coefficients = crammer_singer(x @ x.mT + identity_like(x), members, self.cost, self.iterations)
        weights: Tensor = x.mT @ coefficients
        return weights

    @full_precision
    def classify(self, fitted: Tensor, query: Tensor) -> Tensor:
        """Return the scaled scores ``[Q, N]``."""
        return self.scale * query @ fitted
