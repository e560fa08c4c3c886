"""Classifiers that are fitted to the support set by gradient descent."""

from abc import abstractmethod

from torch import Tensor
from torch.func import grad

from metalit.episode import Labelled
from metalit.functional.checks import not_negative, positive
from metalit.functional.losses import task_loss
from metalit.functional.parameters import Params
from metalit.functional.precision import full_precision
from metalit.heads.base import Head


class FittedClassifier(Head):
    """Descends the cross-entropy of the support set by steps over all of it, from a start that is always the same.

    Args:
        steps: how many, >= 0.
        learning_rate: > 0.
        weight_decay: what share of a parameter is added to its gradient, >= 0.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(self, steps: int = 200, learning_rate: float = 0.01, weight_decay: float = 0.001) -> None:
        super().__init__()
        self.steps = not_negative("steps", steps)
        self.learning_rate = positive("learning_rate", learning_rate)
        self.weight_decay = not_negative("weight_decay", weight_decay)

    @abstractmethod
    def start(self, support: Labelled, ways: int) -> Params:
        """Return the parameters before the first step, by name."""

    @abstractmethod
    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return ``[n, N]`` of embeddings ``[n, D]``."""

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Params:
        """Return the parameters after the last step, fitted without autocast: small steps would be rounded away."""

        def loss(parameters: Params) -> Tensor:
            return task_loss(self.logits(parameters, support.x), support.y)

        parameters = self.start(support, ways)
        for _ in range(self.steps):
            slopes = grad(loss)(parameters)
            parameters = {
                name: value - self.learning_rate * (slopes[name] + self.weight_decay * value)
                for name, value in parameters.items()
            }
        return parameters

    @full_precision
    def classify(self, fitted: Params, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``."""
        return self.logits(fitted, query)
