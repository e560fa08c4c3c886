"""Vectors as their own embedding, for data that are features already."""

from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.expected_inputs import check_vectors


class Vectors(nn.Module):
    """Returns vectors as they are, after a check of their length: the network of a method that runs on cached features.

    Args:
        inputs: D, length of a vector, >= 1.

    Attributes:
        features: equal to ``inputs``.

    Shape:
        ``[n, inputs]`` to the same.

    Raises:
        SettingError: ``inputs`` is below 1, or the data have another length.
    """

    def __init__(self, inputs: int) -> None:
        super().__init__()
        at_least(1, inputs=inputs)
        self.inputs = self.features = inputs

    def forward(self, x: Tensor) -> Tensor:
        """Return the vectors ``[n, inputs]``."""
        check_vectors(self, x, self.inputs)
        return x
