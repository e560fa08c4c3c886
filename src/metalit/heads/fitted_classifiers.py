"""Linear classifiers fitted to the support set by gradient descent."""

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
    """Full-batch gradient descent on the support cross-entropy, from a deterministic initialisation.

    Args:
        steps: gradient steps, >= 0.
        learning_rate: > 0.
        weight_decay: coefficient of the parameter that is added to its gradient, >= 0.

    Raises:
        SettingError: a number is out of range.
    """

    honours_masks = True

    def __init__(self, steps: int = 200, learning_rate: float = 0.01, weight_decay: float = 0.001) -> None:
        super().__init__()
        # Rate and weight decay are those of the authors' baselinefinetune.py (Chen et al. 2019). Their 100 epochs of
        # mini-batches of 4 are 200 steps at 5-way 1-shot.
        self.steps = not_negative("steps", steps)
        self.learning_rate = positive("learning_rate", learning_rate)
        self.weight_decay = not_negative("weight_decay", weight_decay)

    @abstractmethod
    def start(self, support: Labelled, ways: int) -> Params:
        """Return the initial parameters by name."""

    @abstractmethod
    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return logits ``[n, N]`` for embeddings ``[n, D]``."""

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Params:
        """Return the parameters after the last step."""
        # full precision: in half precision, small steps would be rounded away

        def loss(parameters: Params) -> Tensor:
            return task_loss(self.logits(parameters, support.x), support.y, support.mask)

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
    """A linear classifier, fitted to the support set by gradient descent from zero weights and biases.

    Args:
        steps: gradient steps, each over the whole support set, >= 0.
        learning_rate: > 0.
        weight_decay: coefficient of the parameter that is added to its gradient, >= 0.

    Raises:
        SettingError: a number is out of range.
    """

    def start(self, support: Labelled, ways: int) -> Params:
        """Return zero weights and biases."""
        # the loss is convex in weights and biases, so no random initialisation is needed
        return {
            "weight": support.x.new_zeros(ways, support.x.shape[-1]),
            "bias": support.x.new_zeros(ways),
        }

    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return x W' + b."""
        return x @ parameters["weight"].mT + parameters["bias"]


class CosineClassifier(FittedClassifier):
    """A cosine classifier, fitted to the support set by gradient descent from the class means.

    Args:
        scale: factor of the cosines, > 0.
        steps: gradient steps, each over the whole support set, >= 0.
        learning_rate: > 0.
        weight_decay: coefficient of the parameter that is added to its gradient, >= 0.

    Raises:
        SettingError: a number is out of range.
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
        """Return the class means as initial class directions."""
        # The authors draw random directions. From the means, the result is deterministic and zero steps are the
        # nearest class mean by cosine.
        return {"weight": class_means(support.x, support.y, ways, support.mask)}

    def logits(self, parameters: Params, x: Tensor) -> Tensor:
        """Return scale cos(x, w_k)."""
        # directions have no learned length, unlike the authors' code, which learns one per class
        return self.scale * cosines(x, parameters["weight"])
