"""Gradient descent with a learned correction of every coordinate."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, not_negative, positive
from metalit.functional.preprocessing import log_and_sign
from metalit.tasks.parameters import Params
from metalit.update_rules.base import UpdateRule

FEATURES = 7


class ResidualUpdate(UpdateRule):
    """Gradient descent plus a correction by a small network g: theta - lr * gradient + beta * g(features).

    g has one hidden layer and is the same for all coordinates of all layers. Of each coordinate it sees the parameter,
    the gradient as size and sign (``log_and_sign``), the support loss as size and sign, 1 / (1 + steps taken), and the
    task embedding: the size of the layer's mean absolute gradient. It returns one number, direction and size of the
    correction. beta and g are meta-learned.

    Args:
        lr: the inner rate alpha, which is fixed; > 0.
        beta: the scale of the correction before training; > 0.
        hidden: units of g's hidden layer; at least 1.
        initial_scale: standard deviation of the weights of g's last layer before training, >= 0. With 0 the rule begins
            as gradient descent.
        features_first_order: hold g's inputs constant when the meta-gradient is taken.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        lr: float,
        beta: float = 0.1,
        hidden: int = 20,
        initial_scale: float = 0.0,
        features_first_order: bool = True,
    ) -> None:
        super().__init__()
        at_least(1, hidden=hidden)
        not_negative("initial_scale", initial_scale)
        self.lr = positive("inner_lr", lr)
        self.beta = nn.Parameter(torch.tensor(positive("beta", beta)))
        last = nn.Linear(hidden, 1)
        nn.init.normal_(last.weight, std=initial_scale)
        nn.init.zeros_(last.bias)
        # smooth, since its derivative is itself differentiated where the features are not held constant
        self.network = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), last)
        self.features_first_order = features_first_order

    def init(self, parameters: Params) -> int:
        """Return the number of steps taken, 0."""
        return 0

    def forward(self, gradient: Params, state: int, parameters: Params, loss: Tensor) -> tuple[Params, int]:
        """Return theta - lr * gradient + beta * g(features), and the number of steps taken."""
        inputs = features(gradient, state, parameters, loss)
        if self.features_first_order:
            inputs = inputs.detach()
        correction = self.beta * self.network(inputs).squeeze(-1)
        parts = correction.split([value.numel() for value in parameters.values()])
        updated = {
            name: value - self.lr * gradient[name] + part.reshape(value.shape)
            for (name, value), part in zip(parameters.items(), parts, strict=True)
        }
        return updated, state + 1


def features(gradient: Params, step: int, parameters: Params, loss: Tensor) -> Tensor:
    """Return what g sees of each coordinate, ``[coordinates, FEATURES]``, layer after layer."""
    layers = list(parameters)
    theta = torch.cat([parameters[name].flatten() for name in layers])
    slopes = torch.cat([gradient[name].flatten() for name in layers])
    embedding = torch.cat(
        [log_and_sign(gradient[name].abs().mean())[0].expand(gradient[name].numel()) for name in layers]
    )
    of_loss = [part.expand(theta.shape) for part in log_and_sign(loss).unbind(-1)]
    progress = torch.full_like(theta, 1 / (1 + step))
    return torch.stack([theta, *log_and_sign(slopes).unbind(-1), *of_loss, progress, embedding], dim=-1)
