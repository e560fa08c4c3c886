"""The machine's limit: the time that a step's convolutions alone would take, at the rate of ordinary convolutions."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .problems import Problem
from .race import Prepared, Setting, seconds_of

# Passes of the size of a forward pass. Forward and backward are 3 (results, derivative by inputs, by weights); the
# gradient of such a gradient is 9.
FIRST, SECOND = 3, 9
REPEATS = 2


class Convolution(NamedTuple):
    """A convolution of the network and the shape of what it is applied to."""

    module: nn.Conv2d
    shape: torch.Size


def convolutions_of(network: nn.Module, x: Tensor) -> list[Convolution]:
    """Return the convolutions that a network applies to an input, in their order."""
    found: list[Convolution] = []

    def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.Conv2d)
        found.append(Convolution(module, inputs[0].shape))

    hooks = [module.register_forward_pre_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return found


def limit(problem: Problem, order: int, steps: int) -> Callable[[Setting], Prepared]:
    """Return what measures the time of the convolutions of a step.

    All tasks' images are convolved at once with one set of weights, which is the fastest that a step could be where
    tasks have weights of their own, too.

    Args:
        problem: the network and the tasks.
        order: 1 or 2.
        steps: inner steps; a metric-based method, whose support images pass like query images, has one of order 1.
    """

    def prepare(setting: Setting) -> Prepared:
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        inner = setting.inner(steps) * (SECOND if order == 2 else FIRST)
        works = [
            (passes, each)
            for passes, part in ((FIRST, tasks.query.x), (inner, tasks.support.x))
            for each in convolutions_of(network, part.flatten(0, 1))
        ]

        def turn() -> float:
            return sum(passes * seconds_of_one(each, setting) for passes, each in works)

        return Prepared(turn)

    return prepare


def seconds_of_one(convolution: Convolution, setting: Setting) -> float:
    """Return the seconds of a forward pass of one convolution, in the faster memory format."""
    module, shape = convolution
    weight = module.weight.detach().to(memory_format=torch.channels_last)
    x = torch.randn(shape, device=setting.device, dtype=setting.dtype).to(memory_format=torch.channels_last)

    def run() -> None:
        F.conv2d(x, weight, stride=module.stride, padding=module.padding)

    run()
    return seconds_of(run, REPEATS, setting)
