"""Checks that the data have the shape a network was built for."""

from torch import Tensor, nn

from metalit.episode import Graphs
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


def check_graphs(network: nn.Module, x: object, inputs: int, edge_inputs: int) -> None:
    """Check that the inputs are graphs whose features match the network's ``inputs`` and ``edge_inputs``.

    Raises:
        SettingError: they do not; names both lengths.
    """
    if not isinstance(x, Graphs):
        expected = f"an encoder of a {type(x).__name__}: graphs are Graphs"
        raise SettingError("network", type(network).__name__, expected)
    if x.nodes.shape[-1] != inputs:
        expected = f"{x.nodes.shape[-1]}, the length of a node's features"
        raise SettingError("inputs", inputs, expected, owner=type(network))
    if x.edge_features.shape[-1] != edge_inputs:
        expected = f"{x.edge_features.shape[-1]}, the length of an edge's features"
        raise SettingError("edge_inputs", edge_inputs, expected, owner=type(network))
