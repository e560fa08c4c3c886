"""Probes: linear classifiers of fixed embeddings, fitted to convergence."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.errors import at_least, positive
from metalit.functional.distances import membership
from metalit.functional.logistic import logistic_regression
from metalit.functional.logistic_of_many import logistic_regression_of_many
from metalit.functional.masks import masked_mean
from metalit.functional.ridge import ridge_regression
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision

Linear = tuple[Tensor, Tensor]

MANY = 600  # equations, beyond which conjugate gradients take less time than solving them


class RidgeClassifier(Head):
    """Ridge regression with an unpenalised bias. On one-hot labels, its predictions times a scale are the logits.

        W, b = argmin sum_i ||x_i W + b - y_i||^2 + strength ||W||^2,    logits = scale (q W + b),    values = q W + b

    Unlike ``RidgeRegression`` it has no parameters to train and does not shrink the bias. Its classes are those of
    scikit-learn's ``RidgeClassifier(alpha=strength)``, its values in regression those of ``Ridge(alpha=strength)``.

    Args:
        strength: lambda, > 0.
        scale: factor of the predictions, > 0; changes probabilities, not classes. Not used in regression.

    Raises:
        SettingError: a number is not positive.
    """

    regresses = True
    honours_masks = True

    def __init__(self, strength: float = 1.0, scale: float = 10.0) -> None:
        super().__init__()
        self.strength, self.scale = positive("strength", strength), positive("scale", scale)

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Linear:
        """Return W ``[D, N]`` and b ``[N]``, both times the scale; in regression without it."""
        regression = support.y.is_floating_point()
        targets = support.y if regression else membership(support.y, ways, support.x).mT
        centre, mean = masked_mean(support.x, support.mask), masked_mean(targets, support.mask)
        # the best bias makes the mean prediction the mean target, so both can be subtracted first
        weight = ridge_regression(support.x - centre, targets - mean, self.strength, support.mask)
        scale = 1.0 if regression else self.scale
        return scale * weight, scale * (mean - centre @ weight)

    @full_precision
    def classify(self, fitted: Linear, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``; in regression, values ``[Q, outputs]``."""
        weight, bias = fitted
        return query @ weight + bias


class LogisticRegression(Head):
    """Multinomial logistic regression with an L2 penalty on the weights, as scikit-learn's ``LogisticRegression``.

        W, b = argmin sum_i CE(x_i W + b, y_i) + 1/2 strength ||W||^2

    Each iteration of the solver solves one linear system of N (S + 1) equations, if these are at most 600; of more
    examples or classes it finds the same minimum by conjugate gradients, and the result has no derivative with respect
    to the embeddings.

    Args:
        strength: lambda, > 0; the inverse of scikit-learn's C.
        iterations: iterations of Newton's method, >= 1.

    Raises:
        SettingError: a number is out of range.
    """

    honours_masks = True

    def __init__(self, strength: float = 1.0, iterations: int = 15) -> None:
        super().__init__()
        at_least(1, iterations=iterations)
        self.strength, self.iterations = positive("strength", strength), iterations

    def fit(self, support: Labelled, ways: int) -> Linear:
        """Return W ``[D, N]`` and b ``[N]``."""
        members = membership(support.y, ways, support.x, support.mask).mT
        fit = logistic_regression if ways * (len(support.y) + 1) <= MANY else logistic_regression_of_many
        return fit(support.x, members, self.strength, self.iterations)

    @full_precision
    def classify(self, fitted: Linear, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``."""
        weight, bias = fitted
        return query @ weight + bias
