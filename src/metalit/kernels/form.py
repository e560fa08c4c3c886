"""The settings of a block's layers."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True)
class Form:
    """The settings of a convolution, the norm after it, and pooling.

    Attributes:
        stride: of the convolution, for height and width; so are the next two.
        padding: zeros on each side.
        dilation: distance of the filter's values.
        eps: added to the variance.
        slope: of a leaky ReLU below zero, in [0, 1]; 0 for ReLU, 1 for none.
        pool: 2 for 2x2 max-pooling, 1 for none.
    """

    stride: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0)
    dilation: tuple[int, ...] = (1, 1)
    eps: float = 1e-5
    slope: float = 0.0
    pool: int = 2

    @cached_property
    def convolution(self) -> tuple[Any, ...]:
        """The last arguments of torch's convolution."""
        transposed, output_padding, groups = False, [0, 0], 1
        return list(self.stride), list(self.padding), list(self.dilation), transposed, output_padding, groups

    def convolved(self, maps: tuple[int, ...], filters: tuple[int, ...]) -> tuple[int, ...]:
        """Return height and width of the convolution's outputs, from those of the maps and the filters."""
        sides = zip(maps, filters, self.stride, self.padding, self.dilation, strict=True)
        return tuple((n + 2 * pad - dilation * (k - 1) - 1) // stride + 1 for n, k, stride, pad, dilation in sides)
