"""How a picture of the user's own becomes an item of a data set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metalit.data.images.loading import read_pixels
from metalit.data.images.reading import to_rgb
from metalit.data.images.resizing import Fit, Resize
from metalit.errors import check

GREY = (19595, 38470, 7471)  # in 65536ths: Pillow's conversion to grey (ITU-R 601-2)


@dataclass(frozen=True)
class PictureForm:
    """The form in which a data set keeps its images.

    Attributes:
        size: height and width in pixels.
        channels: 3 for colour, 1 for grey.
        fit: how a picture becomes square; see ``Resize``.
        inverted: whether dark ink is bright in the data set, as in Omniglot.

    Raises:
        SettingError: a value is out of range.
    """

    size: int
    channels: int = 3
    fit: Fit = "crop"
    inverted: bool = False

    def __post_init__(self) -> None:
        check("channels", self.channels, self.channels in (1, 3), "1 or 3")
        Resize(self.size, self.fit)

    @property
    def resize(self) -> Resize:
        """How a picture becomes square."""
        return Resize(self.size, self.fit)

    def of_file(self, path: str | Path) -> Tensor:
        """Return an image file as an item, uint8 ``[channels, size, size]``.

        Raises:
            UserError: it cannot be read; the message is ``path: reason``.
        """
        return self.items(torch.from_numpy(read_pixels(Path(path), str(path), self.resize)))

    def of_picture(self, picture: Image.Image) -> Tensor:
        """Return a picture as an item, uint8 ``[channels, size, size]``, by the rule for files."""
        upright = ImageOps.exif_transpose(picture)
        return self.items(torch.from_numpy(self.resize(to_rgb(upright))))

    def items(self, pixels: Tensor) -> Tensor:
        """Return RGB pixels ``[..., 3, size, size]`` as items ``[..., channels, size, size]``, uint8 both."""
        if self.channels == 1:
            weights = torch.tensor(GREY, dtype=torch.int32).view(3, 1, 1)
            grey = (pixels.to(torch.int32) * weights).sum(-3, keepdim=True)
            pixels = ((grey + 0x8000) >> 16).to(torch.uint8)
        return 255 - pixels if self.inverted else pixels

    def resized(self, images: Tensor) -> Tensor:
        """Return items ``[n, C, H, W]`` uint8 of another size as items of this form, without inverting them."""
        if images.shape[1:] == (self.channels, self.size, self.size):
            return images
        rgb = images.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy()
        squares = np.stack([self.resize(Image.fromarray(pixels)) for pixels in rgb])
        # an array already has the data set's ink; only files and pictures are dark on light
        return PictureForm(self.size, self.channels, self.fit).items(torch.from_numpy(squares))
