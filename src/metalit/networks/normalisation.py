"""Batch normalisation as one explicit setting, because it decides what a result can be compared with."""

from typing import Literal

from torch import nn

BatchNormMode = Literal["batch", "running", "none"]


def batch_norm_2d(channels: int, mode: BatchNormMode) -> nn.Module:
    """Return the normalisation layer of one convolution.

    Args:
        channels: how many.
        mode: ``batch`` normalises by the statistics of the examples at hand, in evaluation too: predictions for one
            query image then depend on the other query images (*transductive*; MAML and its kin). ``running`` uses
            statistics accumulated in training when evaluating (Prototypical Networks). ``none`` leaves it out.
    """
    if mode == "none":
        return nn.Identity()
    return nn.BatchNorm2d(channels, track_running_stats=mode == "running")


def batch_norm_mode(network: nn.Module) -> str:
    """Return a network's mode, any network's, as it is written into a result; ``mixed`` if its layers differ."""
    tracking = {
        module.track_running_stats
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    }
    if len(tracking) > 1:
        return "mixed"
    return {frozenset(): "none", frozenset({True}): "running", frozenset({False}): "batch"}[
        frozenset(tracking)
    ]
