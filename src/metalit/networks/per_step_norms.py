"""Per-step batch normalisation (Antoniou et al. 2019)."""

from copy import deepcopy

from torch import nn

from metalit.tasks.parameters import Params


class PerStepNorms(nn.Module):
    """Copies of all batch norms of a network, one set per inner step (Antoniou et al. 2019).

    The distribution of activations changes with every inner step. So each step has its own scale and shift and, if the
    network's norms track them, its own running statistics. Before the first step the network's own norms are used,
    after it the copies.

    Args:
        network: any network; only subclasses of ``torch.nn``'s batch norms are copied.
        steps: number of inner steps with norms of their own; later steps use the norms of the last. No copies if 0.
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
        # torch forbids dots in the name of a module
        self.copies = nn.ModuleList(
            nn.ModuleDict({name.replace(".", "/"): deepcopy(norm) for name, norm in norms.items()})
            for _ in range(steps)
        )

    def after(self, steps: int, tensors: Params) -> Params:
        """Return parameters and buffers of the norms after ``steps`` inner steps, by their name in the network.

        Args:
            steps: inner steps taken; with 0 nothing is returned and the network's own norms stay in use.
            tensors: current values of this module's parameters and buffers, by name.
        """
        # with no step taken, the index is -1, which is the prefix of no name
        prefix = f"copies.{min(steps, len(self.copies)) - 1}."
        return {
            name.removeprefix(prefix).replace("/", "."): tensor
            for name, tensor in tensors.items()
            if name.startswith(prefix)
        }
