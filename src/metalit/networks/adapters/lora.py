"""Low-rank adaptation (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""

from collections.abc import Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least, check, not_negative, positive
from metalit.networks.adapters.base import AdaptedNetwork
from metalit.networks.adapters.linear_layers import replace_linear


class LoRALinear(nn.Module):
    """A linear layer with a low-rank update (Hu et al. 2021, section 4.1):  y = W x + b + (alpha / r) B A x.

    ``weight`` and ``bias`` keep the names they have in ``nn.Linear``; the update is ``lora_A`` and ``lora_B``.

    Args:
        linear: the layer; its parameters are used, not copied.
        rank: r, >= 1.
        alpha: > 0.
        dropout: probability that an input of the update is dropped in training, in [0, 1).
        init: standard deviation of B's entries at the beginning, >= 0.

    Shape:
        ``[..., in]`` to ``[..., out]``.
    """

    def __init__(
        self, linear: nn.Linear, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0, init: float = 0.0
    ) -> None:
        super().__init__()
        self.weight, self.bias, self.scale = linear.weight, linear.bias, alpha / rank
        # on the device and in the dtype of the weight
        self.lora_A = nn.Parameter(self.weight.new_empty(rank, linear.in_features))
        self.lora_B = nn.Parameter(self.weight.new_zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)  # as in the authors' code, the initialisation of nn.Linear
        if init:
            nn.init.normal_(self.lora_B, std=init)
        self.lora_dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return the layer's output with the update."""
        update = F.linear(F.linear(self.lora_dropout(x), self.lora_A), self.lora_B)
        return F.linear(x, self.weight, self.bias) + self.scale * update

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain layer with weight W + (alpha / r) B A, and a copy of the bias; both are frozen."""
        out, into = self.weight.shape
        linear = nn.Linear(into, out, bias=self.bias is not None, device=self.weight.device, dtype=self.weight.dtype)
        linear.weight.copy_(self.weight + self.scale * self.lora_B @ self.lora_A)
        if self.bias is not None:
            linear.bias.copy_(self.bias)
        return linear.requires_grad_(False).train(self.training)


class LoRA(AdaptedNetwork):
    """Low-rank updates of chosen linear layers of a network that is frozen otherwise.

    As an adaptable set: ``adapted: ["*lora_*", "head.*"]``. B begins at 0, so that the network begins unchanged, and
    the gradient with respect to A is exactly 0 at first: in the first inner step of the first meta-step only B moves.
    A and B are both meta-learned, so from the first meta-step on B is no longer 0 and both adapt. With ``init`` B
    begins small instead, and the network slightly changed; ``adapted: ["*lora_B"]`` adapts B alone.

    The state dict gains ``network.<layer>.lora_A`` and ``network.<layer>.lora_B``; see ``AdaptedNetwork``.

    Args:
        network: any network; it is changed in place.
        layers: shell-style patterns of the dotted names of its ``nn.Linear`` layers, e.g. ``["*.query", "*.value"]``;
            ``["*"]`` for all.
        rank: r, >= 1.
        alpha: the update is scaled by alpha / r; > 0.
        dropout: probability that an input of the update is dropped in training, in [0, 1).
        trained: shell-style patterns of further parameters that stay trained, such as ``["*LayerNorm*"]``.
        init: standard deviation of B's entries at the beginning, >= 0.

    Raises:
        SettingError: a number is out of range, the weights are quantised, or a pattern matches no linear layer that can
            be replaced: none of another class, such as GPT-2's ``Conv1D``, and none whose weight the module around it
            reads directly, as ``nn.MultiheadAttention`` does.
        UserError: a pattern of ``trained`` matches no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: Sequence[str],
        rank: int = 8,
        alpha: float = 16.0,
        dropout: float = 0.0,
        trained: Sequence[str] = (),
        init: float = 0.0,
    ) -> None:
        at_least(1, rank=rank)
        positive("alpha", alpha)
        check("dropout", dropout, 0 <= dropout < 1, "a probability in [0, 1)")
        not_negative("init", init)

        def updated(linear: nn.Linear) -> LoRALinear:
            return LoRALinear(linear, rank, alpha, dropout, init)

        super().__init__(network, trained, partial(replace_linear, layers=layers, make=updated))
        self.layers, self.numbers = tuple(layers), {"rank": rank, "alpha": alpha, "dropout": dropout, "init": init}

    def setting(self) -> dict[str, Any]:
        """Return rank, scale and layers."""
        return {
            "lora": ", ".join(f"{name} {value:g}" for name, value in self.numbers.items()),
            "lora_layers": list(self.layers),
            "lora_trained": list(self.trained),
            "lora_parameters": self.trained_share(),
        }

    def merged(self) -> nn.Module:
        """Return a copy of the network without adapters, whose weights W + (alpha / r) B A compute the same."""
        copy = deepcopy(self.network)
        made: dict[nn.Module, nn.Linear] = {}
        for name, module in list(copy.named_modules(remove_duplicate=False)):
            parent, _, child = name.rpartition(".")
            if isinstance(module, LoRALinear):
                made.setdefault(module, module.merged())
                setattr(copy.get_submodule(parent), child, made[module])
        return copy
