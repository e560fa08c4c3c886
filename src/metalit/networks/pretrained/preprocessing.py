"""The first step of a pretrained network: images in [0, 1] become what its weights were trained on."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import SettingError, at_least, check

Interpolation = Literal["bilinear", "bicubic", "nearest"]


class PretrainedInput(nn.Module):
    """Resizes images with antialiasing, and normalises them by a mean and a standard deviation per channel.

    Grey images are repeated over the channels of ``mean``.

    Args:
        mean: mean of each channel of the pretraining images, which were in [0, 1].
        std: their standard deviation, above 0; as many as ``mean``.
        image_size: (height, width) of what the network sees, in pixels, at least 1; None leaves the size as it is.
        shortest_edge: scale the shorter side to this length, then cut ``image_size`` out of the centre; if not given,
            images are scaled to ``image_size`` without keeping their proportions.
        interpolation: how pixels are interpolated.

    Shape:
        ``[n, channels, height, width]`` to ``[n, channels, *image_size]``.

    Raises:
        SettingError: a number is out of range; images whose channels do not match ``mean``.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float],
        std: Sequence[float],
        image_size: tuple[int, int] | None = None,
        shortest_edge: int | None = None,
        interpolation: Interpolation = "bilinear",
    ) -> None:
        super().__init__()
        check("std", list(std), len(std) == len(mean) and min(std, default=1) > 0, f"{len(mean)} numbers above 0")
        at_least(1, shortest_edge=shortest_edge)
        check("image_size", image_size, image_size is None or min(image_size) >= 1, "at least 1")
        self.image_size, self.shortest_edge, self.interpolation = image_size, shortest_edge, interpolation
        # not in the state dict: they belong to the weights file's description and not to what is learned
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(list(values)).reshape(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the images as the network wants them."""
        channels = len(self.mean)
        if x.dim() != 4 or x.shape[1] not in (1, channels):
            raise SettingError(
                "mean", self.mean.flatten().tolist(), f"one number per channel of the images, which are {list(x.shape)}"
            )
        x = self.resized(x).expand(-1, channels, -1, -1)
        return (x - self.mean.to(x.dtype)) / self.std.to(x.dtype)

    def resized(self, x: Tensor) -> Tensor:
        """Return the images scaled and cut to ``image_size``, still in [0, 1]."""
        if self.image_size is None:
            return x
        if self.shortest_edge is None:
            return self.scaled(x, *self.image_size)
        height, width = x.shape[-2:]
        ratio = self.shortest_edge / min(height, width)
        return cut_centre(self.scaled(x, round(height * ratio), round(width * ratio)), *self.image_size)

    def scaled(self, x: Tensor, height: int, width: int) -> Tensor:
        """Return the images scaled to (height, width)."""
        if x.shape[-2:] == (height, width):
            return x
        antialias = self.interpolation != "nearest"
        x = F.interpolate(x, (height, width), mode=self.interpolation, antialias=antialias)
        # a cubic overshoots at edges; image files, and so the pretraining, cannot hold what is beyond black and white
        return x.clamp(0, 1) if self.interpolation == "bicubic" else x

    def described(self) -> str:
        """Return size and interpolation as results state them."""
        if self.image_size is None:
            return "size of the images"
        height, width = self.image_size
        scaled = "" if self.shortest_edge is None else f", centre of images with shorter side {self.shortest_edge}"
        return f"{height}x{width} {self.interpolation}{scaled}"

    def extra_repr(self) -> str:
        """Return mean, standard deviation and sizes."""
        return f"mean={self.mean.flatten().tolist()}, std={self.std.flatten().tolist()}, {self.described()}"


def cut_centre(x: Tensor, height: int, width: int) -> Tensor:
    """Return the centre ``[..., height, width]`` of images, with zeros around those that are smaller."""
    missing = [max(height - x.shape[-2], 0), max(width - x.shape[-1], 0)]
    if any(missing):
        rows, columns = missing
        x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
    top, left = (x.shape[-2] - height) // 2, (x.shape[-1] - width) // 2
    return x[..., top : top + height, left : left + width]
