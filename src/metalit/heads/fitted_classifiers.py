"""Linear classifiers that are fitted to the support set by gradient descent."""

from abc import abstractmethod

from torch import Tensor
from torch.func import grad

from metalit.episode import Labelled
from metalit.errors import not_negative, positive
from metalit.functional.distances import class_means, cosines
from metalit.functional.losses import task_loss
from metalit.heads.base import Head
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision


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


class CosineClassifier(FittedClassifier):
    """Fits a direction for each class, beginning at the class mean, by gradient descent on the support set.

    Args:
        scale: what the cosine with a direction is multiplied by, > 0.
        steps: how many, each over the whole support set, >= 0.
        learning_rate: > 0.
        weight_decay: what share of a parameter is added to its gradient, >= 0.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self,
        scale: float = 2.0,
        steps: int = 200,
        learning_rate: float = 0.01,
        weight_decay: float = 0.001,
    ) -> None:
        super().__init__(steps, learning_rate, weight_decay)
        self.scale = positive("scale", scale)

    def start(self, support: Labelled, ways: int) -> Params:
        """Return the class means."""
        return {"weight": class_means(support.x, support.y, ways)}

    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return scale cos(x, w_k)."""
        return self.scale * cosines(x, parameters["weight"])
