"""A linear layer, fitted to the support set."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.parameters import Params
from metalit.heads.fitted import FittedClassifier


class LinearClassifier(FittedClassifier):
    """Fits weights and biases that begin at zero, by gradient descent on the support set.

    Args:
        steps: how many, each over the whole support set, >= 0.
        learning_rate: > 0.
        weight_decay: what share of a parameter is added to its gradient, >= 0.

    Raises:
        ValueError: a number outside its range.
    """

    def start(self, support: Labelled, ways: int) -> Params:
        """Return zeros."""
        return {
            "weight": support.x.new_zeros(ways, support.x.shape[-1]),
            "bias": support.x.new_zeros(ways),
        }

    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return x W' + b."""
        return x @ parameters["weight"].mT + parameters["bias"]
