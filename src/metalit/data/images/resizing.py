"""Images of all sizes become squares of one size."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from metalit.errors import SettingError, at_least

Pixels = npt.NDArray[np.uint8]
Fit = Literal["crop", "pad", "squash"]
MOST = 4096  # pixels a side
MARGIN = 2  # a JPEG may be reduced on decoding to this many times the size; Pillow's filter does the rest


@dataclass(frozen=True)
class Resize:
    """Resizes an RGB image to a square, bilinearly with antialiasing; an image of that size stays as it is.

    Args:
        size: height and width of the square, in pixels, 1 to 4096.
        fit: ``crop`` cuts the largest square out of the middle; ``pad`` keeps the whole image, in its proportions, on
            black; ``squash`` keeps the whole image and not its proportions.

    Raises:
        SettingError: an argument is out of range.
    """

    size: int
    fit: Fit = "crop"

    def __post_init__(self) -> None:
        at_least(1, size=self.size)
        if self.size > MOST:
            raise SettingError("size", self.size, f"at most {MOST}")
        if self.fit not in get_args(Fit):
            raise SettingError("fit", self.fit, f"one of {', '.join(get_args(Fit))}")

    @property
    def decoded(self) -> int:
        """The sides to which ``read_image`` may reduce an image without a visible loss."""
        return MARGIN * self.size

    def __call__(self, image: Image.Image) -> Pixels:
        """Return the pixels of an RGB image, ``[3, size, size]`` uint8."""
        pixels = np.empty((3, self.size, self.size), dtype=np.uint8)
        self.into(pixels, image)
        return pixels

    def into(self, pixels: Pixels, image: Image.Image) -> None:
        """Write the pixels of an RGB image to ``[3, size, size]`` uint8."""
        # by lines, red, green, blue: whole lines are copied then, which takes two thirds of the time
        lines = np.frombuffer(self.square(image).tobytes("raw", "RGB;L"), np.uint8)
        pixels[...] = lines.reshape(self.size, 3, self.size).transpose(1, 0, 2)

    def square(self, image: Image.Image) -> Image.Image:
        """Return an RGB image as a square RGB image."""
        (width, height), size = image.size, self.size
        if width == height == size:
            return image
        if self.fit == "pad":
            return self._padded(image)
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        # cut before resizing: resized first, an image of 1 x 100 000 pixels would fill the memory
        box = (left, top, left + side, top + side) if self.fit == "crop" else None
        return image.resize((size, size), Image.Resampling.BILINEAR, box)

    def describe(self) -> str:
        """Return the rule in words, for results."""
        return f"{self.size}x{self.size}, {self.fit}, bilinear"

    def _padded(self, image: Image.Image) -> Image.Image:
        scale = self.size / max(image.size)
        width, height = (max(1, round(side * scale)) for side in image.size)
        square = Image.new("RGB", (self.size, self.size))
        inner = image.resize((width, height), Image.Resampling.BILINEAR)
        square.paste(inner, ((self.size - width) // 2, (self.size - height) // 2))
        return square
