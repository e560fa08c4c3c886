"""Batch normalisation that knows how far a task has been learned."""

from copy import deepcopy

from torch import nn

from metalit.tasks.parameters import Params


class PerStepNorms(nn.Module):
    """Copies of all batch norms of a network, one for each number of inner steps taken (Antoniou et al. 2019).

    The distribution of activations changes with every inner step, so each has a scale, a shift and, where the network's
    norms keep them, running statistics of its own. The network's own norms serve before the first step, the copies
    after it.

    Args:
        network: any network; only norms derived from ``torch.nn``'s batch norms are copied.
        steps: how many steps have norms of their own; those beyond take the norms of the last. None if 0.
    """

    def __init__(self, network: nn.Module, steps: int) -> None:
        super().__init__()
        norms = {
            name: module
            for name, module in network.named_modules()
            if steps > 0 and isinstance(module, nn.modules.batchnorm._BatchNorm)
        }
        self.parameter_names = [
            f"{name}.{member}" for name, norm in norms.items() for member, _ in norm.named_parameters()
        ]
        # torch allows no dot in the name of a module
        self.copies = nn.ModuleList(
            nn.ModuleDict({name.replace(".", "/"): deepcopy(norm) for name, norm in norms.items()})
            for _ in range(steps)
        )

    def after(self, steps: int, tensors: Params) -> Params:
        """Return parameters and buffers of the norms after so many steps, by their name in the network.

        Args:
            steps: inner steps taken; at 0 nothing is returned, for the network's own norms serve.
            tensors: present values of this module's parameters and buffers, by name.
        """
        prefix = f"copies.{min(steps, len(self.copies)) - 1}."
        return {
            name.removeprefix(prefix).replace("/", "."): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
