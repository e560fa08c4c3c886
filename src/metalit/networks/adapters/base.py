"""The base class of adapters: a frozen network with small trained parts."""

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Any, Self

from torch import Tensor, nn

from metalit.errors import about
from metalit.networks.adapters.quantised import refuse_quantised
from metalit.networks.partly_trained import PartlyTrained
from metalit.tasks.parameters import matching


class AdaptedNetwork(PartlyTrained, ABC):
    """A network that is frozen except for parameters chosen by name and for what an adapter adds to it.

    Modules without a trained parameter of their own, and all batch norms, stay in evaluation mode: dropout in the
    frozen network drops nothing, and running statistics do not change. In the state dict the names of the network's own
    tensors gain ``network.`` in front.

    Args:
        network: any network; it is changed in place.
        trained: shell-style patterns of its parameters that stay trained.
        add: adds trained parts to the frozen network, in place.

    Attributes:
        features: D, length of an embedding; None if the network does not say it.
        added: dotted names, in the network, of the modules that were added.

    Shape:
        that of the network.

    Raises:
        SettingError: the network has quantised weights.
        UserError: a pattern matches no parameter.
    """

    def __init__(
        self, network: nn.Module, trained: Sequence[str], add: Callable[[nn.Module], None] | None = None
    ) -> None:
        super().__init__()
        refuse_quantised(network)
        parameters = dict(network.named_parameters())
        with about("trained"):
            names = matching(list(parameters), trained) if trained else []
        network.requires_grad_(False)
        before = set(network.modules())
        if add is not None:
            add(network)
        self.network, self.trained = network, tuple(trained)
        self.added = [name for name, module in network.named_modules() if module not in before]
        for name in names:
            parameters[name].requires_grad_(True)
        self.train()

    @property
    def features(self) -> int | None:
        """D, the length of an embedding, if the network says it."""
        return getattr(self.network, "features", None)

    @property
    def vocabulary(self) -> int | None:
        """The number of token ids that the network knows, if it says so."""
        return getattr(self.network, "vocabulary", None)

    @property
    def tokenizer_digest(self) -> str | None:
        """Which tokenizer's ids the network takes, if it says so."""
        return getattr(self.network, "tokenizer_digest", None)

    def forward(self, x: Any) -> Tensor:
        """Return the network's outputs ``[n, ...]`` for inputs ``[n, ...]``."""
        return self.network(x)  # type: ignore[no-any-return]

    def train(self, mode: bool = True) -> Self:
        """Set the mode of the trained parts; the others stay in evaluation mode."""
        super().train(mode)
        for module in self.network.modules():
            module.training = mode and is_trained(module)
        for name in self.added:
            self.network.get_submodule(name).training = mode
        return self

    def trained_share(self) -> str:
        """Return how many parameters are trained, of how many, in words."""
        counts = [sum(each.numel() for each in self.parameters() if each.requires_grad or all) for all in (False, True)]
        return f"{counts[0]:,} of {counts[1]:,} parameters trained"


def is_trained(module: nn.Module) -> bool:
    """Whether a module has a trained parameter of its own and is no batch norm."""
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return False
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))
