"""Checks that the data have the shape a network was built for."""

from torch import Tensor, nn

from metalit.errors import SettingError


def known(length: int | None) -> int:
    """Return a length of inputs or outputs: 1 if neither a setting nor the data module said it."""
    return 1 if length is None else length


def check_images(network: nn.Module, x: Tensor, in_channels: int, image_size: int) -> None:
    """Check that images ``[n, C, H, W]`` are square and match the network's ``in_channels`` and ``image_size``.

    Raises:
        SettingError: the images do not match; names the option of the network.
    """
    # Without this, torch reports a mismatch of matrix shapes deep in the network, which names no option. If the last
    # feature maps are averaged over space, a wrong image size would even pass unnoticed.
    channels, height, width = x.shape[1:]
    if channels != in_channels:
        expected = f"{channels}, the channels of the images"
        raise SettingError("in_channels", in_channels, expected, owner=type(network))
    if not height == width == image_size:
        expected = f"the size of the images, which are {height}x{width}"
        raise SettingError("image_size", image_size, expected, owner=type(network))


def check_vectors(network: nn.Module, x: Tensor, inputs: int) -> None:
    """Check that vectors ``[n, inputs]`` match the network's ``inputs``.

    Raises:
        SettingError: they do not; names both lengths.
    """
    if x.shape[-1] != inputs:
        raise SettingError("inputs", inputs, f"{x.shape[-1]}, the length of an input", owner=type(network))
