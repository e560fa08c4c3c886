"""Random transformations of images, as a pure function of the images and of uniform random numbers.

The numbers are an argument, so the caller decides what they depend on: a data module takes them from the stream of
episodes, and a method that augments support sets draws them within the task, by its key:

    numbers = uniform_like(images.new_empty(len(images), NUMBERS))
    augment(images, numbers, Augmentation(flip=True))

Legend: n images, C channels, H height, W width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.errors import SettingError, at_least, check, not_negative

NUMBERS = 13  # uniform numbers of an image, each with a use of its own, so that one setting does not shift another
LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in grey (ITU-R BT.601)
CROP_RATIO = 4 / 3  # bound of width / height of a resized crop, and of height / width
ERASED_SHARE = (
    0.02,
    0.4,
)  # bounds of the erased share of an image (Zhong et al. 2017, https://arxiv.org/abs/1708.04896)
ERASED_RATIO = 10 / 3  # bound of width / height of an erased rectangle, and of height / width


class Augmentation:
    """The ranges of random transformations of images; by default there are none.

    They are applied in the order of the arguments. ``augment`` has the definitions.

    Args:
        crop: width of a black border, in pixels, around the image, from which a window of the image's size is cut out
            at random; 0 for none. 4 for images of 32 pixels and 8 for those of 84 (Lee et al. 2019).
        resized_crop: smallest share of the image's area, in (0, 1], of a rectangle that is cut out at random and
            enlarged to the image's size; 1 for none. Instead of ``crop``.
        flip: mirror half of the images from left to right.
        brightness: b >= 0; the image is multiplied by a factor in [1 - b, 1 + b]. 0.4 in Lee et al. 2019.
        contrast: b >= 0; differences from the mean grey are multiplied by such a factor. 0.4 in Lee et al. 2019.
        saturation: b >= 0; differences from grey are multiplied by such a factor. 0.4 in Lee et al. 2019.
        erasing: probability in [0, 1] that a rectangle is replaced by the image's mean colour (Zhong et al. 2017).

    Raises:
        SettingError: a number is out of range, or both kinds of crop are given.
    """

    def __init__(
        self,
        crop: int = 0,
        resized_crop: float = 1.0,
        flip: bool = False,
        brightness: float = 0.0,
        contrast: float = 0.0,
        saturation: float = 0.0,
        erasing: float = 0.0,
    ) -> None:
        at_least(0, crop=crop)
        check("resized_crop", resized_crop, 0 < resized_crop <= 1, "a share of the area in (0, 1]")
        check("resized_crop", resized_crop, crop == 0 or resized_crop == 1, f"1, for crop is {crop}: give one of them")
        check("erasing", erasing, 0 <= erasing <= 1, "a probability in [0, 1]")
        self.crop, self.resized_crop, self.flip = crop, resized_crop, flip
        self.brightness = not_negative("brightness", brightness)
        self.contrast = not_negative("contrast", contrast)
        self.saturation = not_negative("saturation", saturation)
        self.erasing = erasing

    def __repr__(self) -> str:
        """Return the settings that differ from their defaults."""
        none = vars(Augmentation())
        return (
            f"Augmentation({', '.join(f'{name}={value}' for name, value in vars(self).items() if value != none[name])})"
        )


def augment(images: Tensor, numbers: Tensor, settings: Augmentation) -> Tensor:
    """Transform each image by its own random numbers; cheap, without a loop, and correct under ``vmap``.

    Args:
        images: ``[n, C, H, W]``, floats in [0, 1].
        numbers: ``[n, NUMBERS]``, uniform in [0, 1), float32 or float64.
        settings: the ranges.

    Returns:
        ``[n, C, H, W]``, in [0, 1].

    Raises:
        SettingError: ``saturation`` for images without the three channels of a colour.

    Differences from torchvision's transforms: brightness, contrast and saturation come in this order, not in a random
    one; a rectangle that does not fit into the image is cut to it, not drawn again.
    """
    check_channels(images.shape[-3], settings)
    down, across, mirrored, area, ratio, *rest = numbers.unbind(-1)
    mirrored = (mirrored < 0.5) & settings.flip
    if settings.resized_crop < 1:
        images = resized(
            images, rectangle(area, ratio, (settings.resized_crop, 1), CROP_RATIO), (down, across), mirrored
        )
    elif settings.crop or settings.flip:
        images = shifted(images, settings.crop, (down, across), mirrored)
    images = recoloured(images, rest[:3], settings)
    if settings.erasing:
        images = erased(images, rest[3:], settings.erasing)
    return images


def check_channels(channels: int, settings: Augmentation) -> None:
    """Refuse ``saturation`` for images that have not three channels, with a ``SettingError``."""
    if settings.saturation and channels != 3:
        raise SettingError("saturation", settings.saturation, f"0, for the images have {channels} channels, not 3")


def rectangle(area: Tensor, ratio: Tensor, shares: tuple[float, float], bound: float) -> tuple[Tensor, Tensor]:
    """Return height and width of random rectangles, ``[n]`` each, as shares of the image's, at most 1.

    Args:
        area: ``[n]`` uniform numbers, mapped to the share of the area.
        ratio: ``[n]`` uniform numbers, mapped to width / height on a logarithmic scale.
        shares: least and largest share of the area.
        bound: largest width / height and height / width, relative to those of the image.
    """
    share, ratio = shares[0] + (shares[1] - shares[0]) * area, bound ** (2 * ratio - 1)
    return (share / ratio).sqrt().clamp(max=1), (share * ratio).sqrt().clamp(max=1)


def shifted(images: Tensor, border: int, at: tuple[Tensor, Tensor], mirrored: Tensor) -> Tensor:
    """Cut a window of the image's size out of each image with a black border, and mirror some.

    Args:
        images: ``[n, C, H, W]``.
        border: width of the border in pixels.
        at: uniform numbers ``[n]`` for the first row and the first column of the window.
        mirrored: ``[n]``, which images are mirrored.
    """
    height, width = images.shape[-2:]
    # one gather does all: of a row and a column of the bordered image for each pixel
    down, across = ((2 * border + 1) * each for each in at)
    column = torch.arange(width, device=images.device)
    rows = down.long()[:, None] + torch.arange(height, device=images.device)
    columns = across.long()[:, None] + torch.where(mirrored[:, None], width - 1 - column, column)
    pixels = (rows[:, :, None] * (width + 2 * border) + columns[:, None, :]).flatten(1)
    bordered = F.pad(images, (border,) * 4).flatten(2)
    return bordered.gather(2, pixels[:, None].expand(-1, images.shape[1], -1)).reshape(images.shape)


def resized(images: Tensor, size: tuple[Tensor, Tensor], at: tuple[Tensor, Tensor], mirrored: Tensor) -> Tensor:
    """Enlarge a rectangle of each image to the image's size, by bilinear interpolation, and mirror some.

    Args:
        images: ``[n, C, H, W]``.
        size: height and width of the rectangles, ``[n]`` each, as shares of the image's.
        at: uniform numbers ``[n]`` for the place of the rectangle, from top to bottom and from left to right.
        mirrored: ``[n]``, which images are mirrored.
    """
    sides = zip(size, at, images.shape[-2:], (torch.zeros_like(mirrored), mirrored), strict=True)
    places = []
    for share, place, pixels, reverse in sides:
        # centres of pixels, from -1 to 1 over the image as grid_sample counts; a rectangle's centre is in 1 - share
        centres = (2 * torch.arange(pixels, device=images.device, dtype=place.dtype) + 1) / pixels - 1
        sign = torch.where(reverse, -1, 1)
        places.append(((2 * place - 1) * (1 - share))[:, None] + (sign * share)[:, None] * centres)
    rows, columns = places
    shape = (len(images), *images.shape[-2:])
    grid = torch.stack([columns[:, None, :].expand(shape), rows[:, :, None].expand(shape)], dim=-1)
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=False)


def recoloured(images: Tensor, numbers: list[Tensor], settings: Augmentation) -> Tensor:
    """Change brightness, contrast and saturation of each image; values stay in [0, 1].

    Args:
        images: ``[n, C, H, W]``.
        numbers: uniform numbers for the three factors, ``[n]`` each.
        settings: the ranges.
    """
    strengths = (settings.brightness, settings.contrast, settings.saturation)
    factors = [factor(number, strength, images) for number, strength in zip(numbers, strengths, strict=True)]
    if settings.brightness:
        images = (images * factors[0]).clamp(0, 1)
    if settings.contrast:
        images = torch.lerp(grey(images).mean((-2, -1), keepdim=True), images, factors[1]).clamp(0, 1)
    if settings.saturation:
        images = torch.lerp(grey(images), images, factors[2]).clamp(0, 1)
    return images


def factor(number: Tensor, strength: float, images: Tensor) -> Tensor:
    """Return factors in [1 - strength, 1 + strength], not below 0, that broadcast to images, from numbers ``[n]``."""
    least = max(0.0, 1 - strength)
    return (least + (1 + strength - least) * number)[:, None, None, None].to(images.dtype)


def grey(images: Tensor) -> Tensor:
    """Return the grey values ``[n, 1, H, W]`` of colour images; the mean of the channels if they are not three."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = (weight * channel for weight, channel in zip(LUMA, images.unbind(1), strict=True))
    return (red + green + blue).unsqueeze(1)


def erased(images: Tensor, numbers: list[Tensor], probability: float) -> Tensor:
    """Replace a random rectangle of some images by their mean colour.

    Args:
        images: ``[n, C, H, W]``.
        numbers: uniform numbers ``[n]`` each: whether, area, ratio, and the place from the top and from the left.
        probability: of an image to be changed.
    """
    chosen, area, ratio, *at = numbers
    inside = []
    for share, place, pixels in zip(
        rectangle(area, ratio, ERASED_SHARE, ERASED_RATIO), at, images.shape[-2:], strict=True
    ):
        first = (place * (1 - share))[:, None]
        centres = (torch.arange(pixels, device=images.device, dtype=place.dtype) + 0.5) / pixels
        inside.append((first <= centres) & (centres < first + share[:, None]))
    rows, columns = inside
    hole = (chosen < probability)[:, None, None] & rows[:, :, None] & columns[:, None, :]
    return torch.where(hole[:, None], images.mean((-2, -1), keepdim=True), images)
