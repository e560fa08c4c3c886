"""A classifier by the cosine."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.functional.distances import cosines


class CosineLayer(nn.Module):
    """Logits by the angle between an input and a learned direction of each class; lengths have no say.

    Args:
        features: length of an input, >= 1.
        classes: C, >= 1.
        scale: what the cosine is multiplied by, > 0.

    Shape:
        ``[n, features]`` to ``[n, C]``.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(self, features: int, classes: int, scale: float = 2.0) -> None:
        super().__init__()
        at_least(1, features=features, classes=classes)
        self.scale = positive("scale", scale)
        self.weight = nn.Parameter(torch.randn(classes, features) / features**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return scale cos(x, w_k)."""
        return self.scale * cosines(x, self.weight)
