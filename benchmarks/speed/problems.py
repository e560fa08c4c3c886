"""What a step works on: a network, and a batch of tasks of random inputs, for the shapes decide the speed."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metalit import Episode, Labelled
from metalit.networks import MLP, Classifier, Conv4, ResNet12

from .race import Setting


@dataclass(frozen=True)
class Problem:
    """A network and a batch of tasks.

    Attributes:
        network: makes the network, given its width and the number of ways; the same at each call.
        width: filters or hidden units.
        tasks: B.
        ways: N; 0 in regression.
        shots: support examples per class, or per task in regression.
        queries: query examples per class, or per task in regression.
        shape: of an input.
        rate: of the inner steps.
    """

    network: Callable[[int, int], nn.Module]
    width: int
    tasks: int
    ways: int
    shots: int
    queries: int
    shape: tuple[int, ...]
    rate: float = 0.01

    def sized(self, setting: Setting) -> "Problem":
        """Return the problem, or a little of it in a smoke run."""
        return replace(self, width=4, tasks=2, queries=2) if setting.smoke else self

    def make_network(self, setting: Setting) -> nn.Module:
        """Return the network, with the same weights at each call."""
        torch.manual_seed(0)
        problem = self.sized(setting)
        return problem.network(problem.width, problem.ways).to(setting.device, setting.dtype).train()

    def make_episode(self, setting: Setting) -> Episode:
        """Return the tasks, the same at each call."""
        problem, generator = self.sized(setting), torch.Generator().manual_seed(1)
        support, query = (problem.part(each, generator) for each in (problem.shots, problem.queries))
        episode = Episode(support, query, torch.arange(problem.tasks))
        return tree_map(lambda leaf: placed(leaf, setting), episode)  # type: ignore[no-any-return]

    def part(self, each: int, generator: torch.Generator) -> Labelled:
        """Return a support or query set of every task."""
        count = each * max(self.ways, 1)
        x = torch.randn(self.tasks, count, *self.shape, generator=generator)
        if self.ways:
            return Labelled(x, torch.arange(count).remainder(self.ways).repeat(self.tasks, 1))
        return Labelled(x, torch.randn(self.tasks, count, 1, generator=generator))


def placed(leaf: Tensor, setting: Setting) -> Tensor:
    """Return a tensor of an episode on the device, floating point numbers in the setting's type."""
    return leaf.to(setting.device, setting.dtype if leaf.is_floating_point() else None)


def conv4(width: int, ways: int, downsample: str = "pool", **options: int) -> nn.Module:
    """Return Conv4 with a linear head."""
    return Classifier(Conv4(width, downsample=downsample, **options), ways)  # type: ignore[arg-type]


def resnet12(width: int, ways: int) -> nn.Module:
    """Return ResNet-12 for images of 32 pixels with a linear head, nothing dropped."""
    channels = [width, width * 5 // 2, width * 5, width * 10]
    return Classifier(ResNet12(channels, image_size=32, drop_rate=0.0), ways)


PROBLEMS = {
    "sine": Problem(lambda width, _: MLP(hidden=(width, width)), 40, 25, 0, 10, 10, (1,)),
    "omniglot-pool": Problem(conv4, 64, 32, 5, 1, 15, (1, 28, 28)),
    "omniglot-stride": Problem(lambda width, ways: conv4(width, ways, "stride"), 64, 32, 5, 1, 15, (1, 28, 28)),
    "mini": Problem(lambda width, ways: conv4(width, ways, in_channels=3, image_size=84), 32, 4, 5, 5, 15, (3, 84, 84)),
    "resnet12": Problem(resnet12, 64, 2, 5, 1, 5, (3, 32, 32)),
}
# Embeddings, normalised by the statistics of each task as learn2learn's are.
EMBEDDED = Problem(lambda width, _: Conv4(width, batch_norm="batch"), 64, 8, 20, 1, 5, (1, 28, 28))
