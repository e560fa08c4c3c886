"""Training chosen parameters of a network and nothing else, such as its biases."""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.networks.adapters.base import AdaptedNetwork


class Tuned(AdaptedNetwork):
    """A network that is frozen except for the parameters whose names match.

    ``trained: ["*.bias"]`` trains the biases alone (BitFit, Ben Zaken et al. 2022, https://arxiv.org/abs/2106.10199);
    ``["*LayerNorm*"]`` the norms of a model that calls them so. With ``adapted: ["*"]`` these are what adapts.

    Args:
        network: any network.
        trained: shell-style patterns of the parameters that are trained; ``!`` before a pattern excludes.

    Raises:
        SettingError: the weights are quantised.
        UserError: a pattern matches no parameter, or none is left.
    """

    def __init__(self, network: nn.Module, trained: Sequence[str]) -> None:
        super().__init__(network, trained)

    def setting(self) -> dict[str, Any]:
        """Return the patterns."""
        return {"tuned": list(self.trained), "tuned_parameters": self.trained_share()}
