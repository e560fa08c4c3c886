"""A fully connected network."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.networks.expected_inputs import check_vectors, known


class MLP(nn.Module):
    """Linear layers with ReLU between them.

    Args:
        inputs: length of an input. If not given: on the command line and in ``metalit.load`` that of the data, else 1.
        hidden: width of each hidden layer; 40, 40 for sinusoids (Finn et al. 2017, section 5.1). Empty for a linear
            network.
        outputs: length of an output; if not given, as ``inputs``.

    Attributes:
        features: equal to ``outputs``, so that an MLP can be the body of a ``Classifier``.

    Shape:
        ``[n, inputs]`` to ``[n, outputs]``.

    Raises:
        SettingError: a width is below 1, or the data do not match ``inputs``.
    """

    def __init__(self, inputs: int | None = None, hidden: Sequence[int] = (40, 40), outputs: int | None = None) -> None:
        super().__init__()
        inputs, outputs = known(inputs), known(outputs)
        at_least(1, inputs=inputs, outputs=outputs)
        check("hidden", list(hidden), min(hidden, default=1) >= 1, "widths of at least 1")
        self.inputs = inputs
        widths = [inputs, *hidden]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], outputs))
        self.features = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return one output per input."""
        check_vectors(self, x, self.inputs)
        return self.layers(x)  # type: ignore[no-any-return]
