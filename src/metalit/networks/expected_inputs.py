"""Whether inputs are those that a network was made for."""

from torch import Tensor, nn

from metalit.errors import SettingError


def check_images(network: nn.Module, x: Tensor, in_channels: int, image_size: int) -> None:
    """Refuse images ``[n, C, H, W]`` that are not square, or of another size or other channels than announced.

    Raises:
        SettingError: with the option of the network that does not fit.
    """
    channels, height, width = x.shape[1:]
    if channels != in_channels:
        expected = f"{channels}, the channels of the images"
        raise SettingError("in_channels", in_channels, expected, owner=type(network))
    if not height == width == image_size:
        expected = f"the size of the images, which are {height}x{width}"
        raise SettingError("image_size", image_size, expected, owner=type(network))


def check_vectors(network: nn.Module, x: Tensor, inputs: int) -> None:
    """Refuse vectors ``[n, inputs]`` of another length than announced.

    Raises:
        SettingError: with both lengths.
    """
    if x.shape[-1] != inputs:
        raise SettingError("inputs", inputs, f"{x.shape[-1]}, the length of an input", owner=type(network))
