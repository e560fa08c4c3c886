"""DropBlock, dropout of whole squares of a feature map."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least, check
from metalit.tasks.precision import at_least_float32


class DropBlock(nn.Module):
    """DropBlock (Ghiasi et al. 2018, https://arxiv.org/abs/1810.12890, algorithm 1).

    Neighbouring values of a feature map are alike, so dropping single values removes little information. DropBlock
    drops squares of b x b values. Each square that lies within the map is chosen independently with probability

        gamma = drop_rate / b^2 * height * width / ((height - b + 1) * (width - b + 1)),

    and the remaining values are multiplied by (number of values) / (number of remaining values), counted over all
    examples and channels. Every channel of every example has squares of its own. Since squares may overlap, slightly
    less than ``drop_rate`` is dropped. In evaluation mode the layer does nothing.

    The rate is constant: a rate that rises with the number of forward passes, as in the paper, would be a state that
    tasks change while they run. Within a task its key determines the squares, as for every form of dropout.

    Args:
        drop_rate: the share of values to drop, in [0, 1).
        block_size: b, height and width of a square, >= 1; 1 is dropout. On a smaller map, a square is the whole map.

    Shape:
        ``[n, channels, height, width]`` to the same.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(self, drop_rate: float = 0.1, block_size: int = 5) -> None:
        super().__init__()
        check("drop_rate", drop_rate, 0 <= drop_rate < 1, "a number in [0, 1)")
        at_least(1, block_size=block_size)
        self.drop_rate, self.block_size = drop_rate, block_size

    def forward(self, x: Tensor) -> Tensor:
        """Return the feature maps with squares set to 0 and the rest scaled up."""
        if not self.training or self.drop_rate == 0:
            return x
        kept = 1 - self.dropped(x.detach())
        # counted in float32 at least, since half precision cannot hold a large count; all may be dropped
        remaining = at_least_float32(kept).mean().clamp(min=1 / kept.numel())
        return x * (kept / remaining).to(x.dtype)

    def dropped(self, x: Tensor) -> Tensor:
        """Return 1 where a value of the feature maps is dropped and 0 elsewhere, in the shape and dtype of ``x``."""
        height, width = x.shape[-2:]
        high, wide = min(self.block_size, height), min(self.block_size, width)
        places = x[..., high - 1 :, wide - 1 :]  # one for each square within the map
        gamma = self.drop_rate / (high * wide) * height * width / (places.shape[-2] * places.shape[-1])
        # by F.dropout, which within a task is drawn by its key
        chosen = (F.dropout(torch.ones_like(places), gamma, training=True) == 0).to(x.dtype)
        # a value is dropped if any of the squares that cover it is chosen
        around = F.pad(chosen, (wide - 1, wide - 1, high - 1, high - 1))
        return F.max_pool2d(around, (high, wide), stride=1)

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"drop_rate={self.drop_rate}, block_size={self.block_size}"
