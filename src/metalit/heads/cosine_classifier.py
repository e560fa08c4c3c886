"""A layer of cosines, fitted to the support set."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.checks import positive
from metalit.functional.distances import class_means, cosines
from metalit.functional.parameters import Params
from metalit.heads.fitted import FittedClassifier


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
