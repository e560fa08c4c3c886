"""The update rule of the LSTM meta-learner: the task's parameters are the cell state of an LSTM."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.functional.lstm import lstm_step
from metalit.functional.preprocessing import log_and_sign
from metalit.tasks.parameters import Params
from metalit.update_rules.base import UpdateRule


class LSTMState(NamedTuple):
    """The state of the rule for each of P coordinates.

    Attributes:
        hidden: output of the lower LSTM, ``[P, H]``.
        cell: cell state of the lower LSTM, ``[P, H]``.
        forget: the previous forget gate, ``[P]``.
        input: the previous input gate, ``[P]``.
    """

    hidden: Tensor
    cell: Tensor
    forget: Tensor
    input: Tensor


class LSTMRule(UpdateRule):
    """theta_t = f_t * theta_(t-1) - i_t * gradient, with gates from an LSTM over the gradients and losses so far.

        h_t = LSTM(log_and_sign(gradient), log_and_sign(loss); h_(t-1))
        f_t = sigmoid(w_f . [h_t, theta_(t-1), f_(t-1)] + b_f)
        i_t = sigmoid(w_i . [h_t, theta_(t-1), i_(t-1)] + b_i)

    Each coordinate of theta has its own state; all coordinates share the weights. With gates f = 1 and i = alpha the
    rule is gradient descent with learning rate alpha.

    Args:
        hidden: width H of the lower LSTM, >= 1.
        forget_bias: bounds of the uniform distribution from which b_f is initialised; by default the forget gate starts
            between sigmoid(4) = 0.982 and sigmoid(5) = 0.993.
        input_bias: bounds of the uniform distribution from which b_i is initialised; by default the learning rate
            starts between 0.007 and 0.018.

    Raises:
        SettingError: there are no hidden units, or the bounds are in the wrong order.
    """

    def __init__(
        self,
        hidden: int = 20,
        forget_bias: tuple[float, float] = (4.0, 5.0),
        input_bias: tuple[float, float] = (-5.0, -4.0),
    ) -> None:
        super().__init__()
        at_least(1, hidden=hidden)
        for name, bounds in (("forget_bias", forget_bias), ("input_bias", input_bias)):
            check(name, list(bounds), bounds[0] <= bounds[1], "the lower bound first")
        self.hidden = hidden
        self.lstm = LSTMCell(4, hidden)  # log magnitude and sign of gradient and loss
        self.forget_gate = Gate(hidden, *forget_bias)
        self.input_gate = Gate(hidden, *input_bias)

    def init(self, parameters: Params) -> LSTMState:
        """Return a state of zeros."""
        theta = flatten(parameters)
        wide = theta.new_zeros(len(theta), self.hidden)
        return LSTMState(wide, wide, torch.zeros_like(theta), torch.zeros_like(theta))

    def forward(self, gradient: Params, state: LSTMState, parameters: Params, loss: Tensor) -> tuple[Params, LSTMState]:
        """Return the parameters, which are the next cell state of the upper LSTM, and the rule's next state."""
        theta, slope = flatten(parameters), flatten(gradient)
        seen = torch.cat([log_and_sign(loss).expand(len(theta), 2), log_and_sign(slope)], dim=-1)
        # A row per coordinate. Each gate sees its own previous value, as in the paper's equations; the authors' code
        # passes on the value before the sigmoid.
        hidden, cell = self.lstm(seen, state.hidden, state.cell)
        forget = self.forget_gate(hidden, theta, state.forget)
        rate = self.input_gate(hidden, theta, state.input)
        return unflatten(forget * theta - rate * slope, parameters), LSTMState(hidden, cell, forget, rate)


class LSTMCell(nn.Module):
    """One step of an LSTM whose weights are initialised near zero.

    ``torch.nn.LSTMCell`` has no second derivative and no ``vmap`` rule (``lstm_step``).

    Args:
        inputs: number of inputs.
        hidden: width of output and cell state.
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.input_weights = small_weights(inputs, 4 * hidden)
        self.hidden_weights = small_weights(hidden, 4 * hidden)
        self.bias = small_weights(4 * hidden)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
        """Return output and cell state, ``[P, hidden]`` each, after the input ``x`` ``[P, inputs]``."""
        gates = x @ self.input_weights + hidden @ self.hidden_weights + self.bias
        input_gate, forget_gate, output_gate, candidate = gates.chunk(4, dim=-1)
        return lstm_step((input_gate, forget_gate, candidate, output_gate), cell)


class Gate(nn.Module):
    """A gate of the upper LSTM: a number in (0, 1) per coordinate.

    Args:
        hidden: width of the lower LSTM.
        low: lower bound of the initial bias.
        high: upper bound of the initial bias.
    """

    def __init__(self, hidden: int, low: float, high: float) -> None:
        super().__init__()
        self.weights = small_weights(hidden + 2)
        self.bias = nn.Parameter(torch.empty(()).uniform_(low, high))

    def forward(self, hidden: Tensor, theta: Tensor, last: Tensor) -> Tensor:
        """Return the gate ``[P]`` from ``hidden`` ``[P, H]``, the parameters and the previous gate, ``[P]`` each."""
        seen = torch.cat([hidden, torch.stack([theta, last], dim=-1)], dim=-1)
        return (seen @ self.weights + self.bias).sigmoid()


def small_weights(*shape: int) -> nn.Parameter:
    """Return parameters near 0: before training the gates are nearly their biases, so the rule is gradient descent."""
    return nn.Parameter(torch.empty(shape).uniform_(-0.01, 0.01))


def flatten(parameters: Params) -> Tensor:
    """Return all parameters as one vector of coordinates, ``[P]``."""
    return torch.cat([value.flatten() for value in parameters.values()])


def unflatten(coordinates: Tensor, like: Params) -> Params:
    """Return coordinates ``[P]`` as parameters by name, in the shapes of ``like``."""
    parts = torch.split(coordinates, [value.numel() for value in like.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}
