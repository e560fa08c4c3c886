"""Gradient descent with a meta-learned correction of each coordinate."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, not_negative, positive
from metalit.functional.preprocessing import log_and_sign
from metalit.tasks.parameters import Params
from metalit.update_rules.base import UpdateRule

FEATURES = 7  # parameter, log magnitude and sign of gradient and of loss, progress, task embedding


class ResidualUpdate(UpdateRule):
    """Gradient descent plus a correction by a small network g: theta - lr * gradient + beta * g(features).

    g has one hidden layer and is shared by all coordinates of all layers. For each coordinate its inputs are the
    parameter, the gradient and the support loss, each as log magnitude and sign (``log_and_sign``), 1 / (1 + steps
    taken), and the task embedding, which is the log magnitude of the layer's mean absolute gradient. Its output is one
    number, the signed correction. beta and g are meta-learned.

    Args:
        lr: fixed inner learning rate alpha; > 0.
        beta: initial scale of the correction; > 0.
        hidden: number of hidden units of g; >= 1.
        initial_scale: standard deviation of the initial weights of g's last layer, >= 0. With 0 the rule starts as
            plain gradient descent.
        features_first_order: treat g's inputs as constants in the meta-gradient.

    Raises:
        SettingError: a number is out of its range.
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
        # tanh is smooth: its derivative is itself differentiated unless the features are held constant
        self.network = nn.Sequential(nn.Linear(FEATURES, hidden), nn.Tanh(), last)
        self.features_first_order = features_first_order

    def init(self, parameters: Params) -> int:
        """Return the number of steps taken, 0."""
        return 0

    def forward(self, gradient: Params, state: int, parameters: Params, loss: Tensor) -> tuple[Params, int]:
        """Return theta - lr * gradient + beta * g(features), and the number of steps taken."""
        # the coordinates of all layers go through g as one matrix
        inputs = features(gradient, state, parameters, loss)
        # The log magnitude of a small gradient has a derivative of up to exp(10) / 10, about 2200: second derivatives
        # through the features are unstable.
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
    """Return the inputs of g for each coordinate, ``[coordinates, FEATURES]``, layer by layer."""
    layers = list(parameters)
    theta = torch.cat([parameters[name].flatten() for name in layers])
    slopes = torch.cat([gradient[name].flatten() for name in layers])
    embedding = torch.cat(
        [log_and_sign(gradient[name].abs().mean())[0].expand(gradient[name].numel()) for name in layers]
    )
    of_loss = [part.expand(theta.shape) for part in log_and_sign(loss).unbind(-1)]
    # in this form the feature needs no total number of steps, which may differ in evaluation
    progress = torch.full_like(theta, 1 / (1 + step))
    return torch.stack([theta, *log_and_sign(slopes).unbind(-1), *of_loss, progress, embedding], dim=-1)
