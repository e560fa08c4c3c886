"""A fully connected network with context parameters beside its input."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_vectors
from metalit.networks.mlp import MLP


class ContextMLP(nn.Module):
    """An MLP whose inputs are concatenated with context parameters, which all examples of a task share.

    Args:
        inputs: length of an input, without the context parameters.
        hidden: width of each hidden layer; 40, 40 for sinusoids (Zintgraf et al. 2019).
        outputs: length of an output.
        context_size: number of context parameters; 5 for sinusoids.

    Attributes:
        context_size: number of context parameters.

    Shape:
        inputs ``[n, inputs]`` and context parameters ``[context_size]`` to ``[n, outputs]``.

    Raises:
        SettingError: a width is below 1, or the data do not match ``inputs``.
    """

    def __init__(
        self, inputs: int = 1, hidden: Sequence[int] = (40, 40), outputs: int = 1, context_size: int = 5
    ) -> None:
        super().__init__()
        at_least(1, inputs=inputs, context_size=context_size)
        self.inputs, self.context_size = inputs, context_size
        self.mlp = MLP(inputs + context_size, hidden, outputs)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Return one output per input."""
        # The context acts as a shift of the first bias. A context of zero still has a gradient, as the first layer's
        # weights are not zero.
        check_vectors(self, x, self.inputs)
        return self.mlp(torch.cat([x, context.expand(len(x), -1)], dim=-1))  # type: ignore[no-any-return]
