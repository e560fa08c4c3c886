"""Whether a learner's tasks are faster one after the other than as one vectorised program: wide convolutions on a CPU.

``vmap`` makes one grouped convolution of all tasks, of permuted copies, and every function between two convolutions
passes over the maps of all tasks. For convolutions of few weights that is repaid by fewer calls of Python.
On a GPU this has not been measured, and nothing is chosen (docs/guide/speed.md).
"""

from torch import nn

from metalit.kernels import missing
from metalit.networks.conv_layers import for_kernels
from metalit.tasks.precision import under_autocast

WIDE = 10_000  # weights of a convolution on average, those of 33 to 33 channels at 3x3


def reason_to_loop(learner: nn.Module, kernels: bool) -> str | None:
    """Return why a learner's tasks are faster one after the other, or None if they are not.

    Args:
        learner: a module with all modules that a task runs.
        kernels: whether metalit's kernels may compute blocks of convolutions, which take all tasks at once.
    """
    sizes = [conv.weight.numel() for conv in convolutions(learner, kernels) if is_measured(conv)]
    if not sizes or sum(sizes) < WIDE * len(sizes):
        return None
    return f"its convolutions have {sum(sizes) // len(sizes)} weights on average and are computed by torch on a CPU"


def convolutions(learner: nn.Module, kernels: bool) -> list[nn.Conv2d]:
    """Return the convolutions of a learner that torch computes."""
    found = [module for module in learner.modules() if isinstance(module, nn.Conv2d)]
    if not found or not kernels or missing():
        return found
    others = set(map(id, for_kernels(learner)))
    return [conv for conv in found if id(conv) not in others]


def is_measured(conv: nn.Conv2d) -> bool:
    """Whether a convolution is one of those measured: on a CPU, in full precision."""
    device = conv.weight.device
    return device.type == "cpu" and not under_autocast(device)
