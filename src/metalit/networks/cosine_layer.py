"""A cosine classifier."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.functional.distances import cosines


class CosineLayer(nn.Module):
    """A layer whose logits are scaled cosines between an input and a learned direction of each class.

    Neither the length of an input nor that of a direction matters.

    Args:
        features: length of an input, >= 1.
        classes: C, number of classes, >= 1.
        scale: factor of the cosines, > 0.

    Shape:
        ``[n, features]`` to ``[n, C]``.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, features: int, classes: int, scale: float = 2.0) -> None:
        super().__init__()
        at_least(1, features=features, classes=classes)
        self.scale = positive("scale", scale)
        self.weight = nn.Parameter(torch.randn(classes, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return scale cos(x, w_k)."""
        return self.scale * cosines(x, self.weight)
