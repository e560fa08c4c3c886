"""Bottleneck adapters (Houlsby et al. 2019, https://arxiv.org/abs/1902.00751)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least, positive
from metalit.networks.adapters.base import AdaptedNetwork
from metalit.networks.adapters.linear_layers import replace_linear


class BottleneckLinear(nn.Module):
    """A linear layer followed by a bottleneck (Houlsby et al. 2019, section 2.1).

        h = W x + b,    y = h + U gelu(D h + c) + e

    ``weight`` and ``bias`` keep the names they have in ``nn.Linear``; the bottleneck is ``adapter_down`` (D, c) and
    ``adapter_up`` (U, e).

    Args:
        linear: the layer; its parameters are used, not copied.
        width: outputs of D, >= 1.
        init: standard deviation of D and U at the beginning, cut off at twice it; c and e are 0.

    Shape:
        ``[..., in]`` to ``[..., out]``.
    """

    def __init__(self, linear: nn.Linear, width: int = 16, init: float = 0.01) -> None:
        super().__init__()
        self.weight, self.bias, out = linear.weight, linear.bias, linear.out_features
        self.adapter_down, self.adapter_up = nn.Linear(out, width), nn.Linear(width, out)
        self.to(self.weight)
        for layer in (self.adapter_down, self.adapter_up):
            nn.init.trunc_normal_(layer.weight, std=init, a=-2 * init, b=2 * init)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the output of layer and bottleneck."""
        hidden = F.linear(x, self.weight, self.bias)
        return hidden + self.adapter_up(F.gelu(self.adapter_down(hidden)))  # type: ignore[no-any-return]


class Bottleneck(AdaptedNetwork):
    """Bottlenecks behind chosen linear layers of a network that is frozen otherwise; they begin near the identity.

    The paper has one behind the output projection of each attention and of each feed-forward part, before the residual
    connection, and trains the layer norms too: for BERT ``layers: ["*.output.dense"]`` with
    ``trained: ["*LayerNorm*"]``. As an adaptable set: ``adapted: ["*adapter_*", "head.*"]``.

    The state dict gains ``network.<layer>.adapter_down.weight`` and so on; see ``AdaptedNetwork``.

    Args:
        network: any network; it is changed in place.
        layers: patterns of its linear layers, as for ``LoRA``.
        width: of the bottleneck, >= 1.
        trained: patterns of further parameters that stay trained, as for ``LoRA``.
        init: standard deviation of the bottlenecks' weights at the beginning, > 0.

    Raises:
        UserError: as ``LoRA``.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        width: int = 16,
        trained: Sequence[str] = (),
        init: float = 0.01,
    ) -> None:
        at_least(1, width=width)
        positive("init", init)  # at 0 all gradients but that of e would stay 0

        def followed(linear: nn.Linear) -> BottleneckLinear:
            return BottleneckLinear(linear, width, init)

        super().__init__(network, trained, partial(replace_linear, layers=layers, make=followed))
        self.layers, self.width, self.init = tuple(layers), width, init

    def setting(self) -> dict[str, Any]:
        """Return width and layers."""
        return {
            "bottleneck": f"width {self.width}, init {self.init:g}",
            "bottleneck_layers": list(self.layers),
            "bottleneck_trained": list(self.trained),
            "bottleneck_parameters": self.trained_share(),
        }
