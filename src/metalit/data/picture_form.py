"""How a picture of the user's own becomes an item of a data set."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from metalit.errors import at_least, check


@dataclass(frozen=True)
class PictureForm:
    """The form in which a data set keeps its images.

    Attributes:
        size: height and width in pixels.
        channels: 3 for colour, 1 for grey.
        fit: how a picture becomes square: ``crop`` keeps its middle, ``pad`` adds margins, ``squash`` distorts it.
        inverted: whether dark ink is bright in the data set, as in Omniglot; for ``channels`` 1.

    Raises:
        SettingError: a value is out of range.
    """

    size: int
    channels: int = 3
    fit: Literal["crop", "pad", "squash"] = "crop"
    inverted: bool = False

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        check("channels", self.channels, self.channels in (1, 3), "1 or 3")
        check("fit", self.fit, self.fit in ("crop", "pad", "squash"), "crop, pad or squash")

    def item(self, picture: Image.Image) -> Tensor:
        """Return an upright picture as an item, uint8 ``[channels, size, size]``."""
        square = (self.size, self.size)
        picture = picture.convert("RGB" if self.channels == 3 else "L")
        if self.fit == "crop":
            picture = ImageOps.fit(picture, square, Image.Resampling.BILINEAR)
        elif self.fit == "pad":
            picture = ImageOps.pad(picture, square, Image.Resampling.BILINEAR, "white" if self.inverted else "black")
        else:
            picture = picture.resize(square, Image.Resampling.BILINEAR)
        if self.inverted:
            picture = ImageOps.invert(picture)
        pixels = np.array(picture, dtype=np.uint8).reshape(*square, self.channels)
        return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
