"""Learned prompts.

For texts: Lester et al. 2021, https://arxiv.org/abs/2104.08691. For images: Jia et al. 2022, "VPT-shallow",
https://arxiv.org/abs/2203.12119.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError, at_least, check
from metalit.networks.adapters.base import AdaptedNetwork

STD = 0.02  # of the prompts of an image encoder at the beginning


class Prompt(nn.Module):
    """P learned tokens behind the first token of a sequence.

    Args:
        length: P, >= 1.
        width: D, length of a token's embedding, >= 1.
        std: standard deviation of their entries at the beginning.
        places: whether the sequence has P places for them already, as a text has; otherwise they are inserted.
    """

    def __init__(self, length: int, width: int, std: float, places: bool) -> None:
        super().__init__()
        self.tokens = nn.Parameter(std * torch.randn(length, width))
        self.places = places

    def behind_first(self, module: nn.Module, inputs: Any, embedded: Tensor) -> Tensor:
        """Return embeddings ``[n, T, D]`` with the prompt, as a forward hook of the module that embeds."""
        length, width = self.tokens.shape
        if embedded.dim() != 3 or embedded.shape[-1] != width:
            expected = f"the length of the tokens that embedding returns, which are {list(embedded.shape)}"
            raise SettingError("width", width, expected, owner=SoftPrompt)
        rest = embedded[:, 1 + length :] if self.places else embedded[:, 1:]
        return torch.cat([embedded[:, :1], self.tokens.expand(len(embedded), -1, -1), rest], dim=1)


class SoftPrompt(AdaptedNetwork):
    """Learned tokens in the input of a transformer that is frozen otherwise, behind the first token.

    The first token stays the first, so a class token keeps its place. The mean over tokens counts the prompt too. As
    an adaptable set: ``adapted: ["*soft_prompt*"]`` learns a task by its prompt alone, as CAVIA does by its context.

    The state dict gains ``soft_prompt.tokens``; see ``AdaptedNetwork``. A hook puts the prompt behind the output of
    ``embedding``, so meta-gradients are taken inside ``vmap``.

    Args:
        network: an encoder of texts (``Tokens``), or of images with tokens ``[n, T, D]`` inside.
        length: P, number of learned tokens, >= 1.
        embedding: dotted name of the module that embeds the tokens. If not given: the ``nn.Embedding`` of as many ids
            as the network's ``vocabulary``, or else the outermost module called ``embeddings``, as in ViT and DINOv2.
        width: D, length of a token; that of the ``nn.Embedding``, or else ``network.features``, if not given.
        trained: shell-style patterns of further parameters that stay trained.

    Raises:
        SettingError: a number is out of range, there is no such module, the weights are quantised, or, in a forward
            pass, D is another.
        UserError: a pattern of ``trained`` matches no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        length: int = 8,
        embedding: str | None = None,
        width: int | None = None,
        trained: Sequence[str] = (),
    ) -> None:
        at_least(1, length=length, width=width)
        super().__init__(network, trained)
        self.embedding: str = embedding or found_embedding(network, self.vocabulary)
        modules = dict(network.named_modules())
        check("embedding", embedding, self.embedding in modules, f"the name of a module: {', '.join(modules)}")
        module, self.length = modules[self.embedding], length
        self.is_of_texts = isinstance(module, nn.Embedding)
        size, std = width or self.features or 0, STD
        if isinstance(module, nn.Embedding):
            size, std = module.embedding_dim, module.weight.detach().std().item()
        check("width", width, size > 0, "the length of a token, which this network does not say")
        self.soft_prompt = Prompt(length, size, std, self.is_of_texts).to(next(network.parameters()))
        module.register_forward_hook(self.soft_prompt.behind_first)

    def forward(self, x: Any) -> Tensor:
        """Return the network's outputs ``[n, ...]`` for inputs ``[n, ...]``."""
        return super().forward(with_places(x, self.length) if self.is_of_texts else x)

    def setting(self) -> dict[str, Any]:
        """Return the number of learned tokens."""
        return {
            "soft_prompt": f"{self.length} tokens at {self.embedding}",
            "soft_prompt_trained": list(self.trained),
            "soft_prompt_parameters": self.trained_share(),
        }


def found_embedding(network: nn.Module, vocabulary: int | None) -> str:
    """Return the name of the module that embeds tokens; see ``SoftPrompt``.

    Raises:
        SettingError: there is none, or there are several.
    """
    modules = dict(network.named_modules())
    tables = {name: module for name, module in modules.items() if isinstance(module, nn.Embedding)}
    names = [name for name, table in tables.items() if table.num_embeddings == vocabulary]
    named = [name for name in modules if name.rpartition(".")[2] == "embeddings"]
    found: list[str] = names or sorted(named, key=lambda name: name.count("."))[:1]
    if len(found) != 1:
        known = f"{', '.join(found)} may be meant" if found else "none is found"
        raise SettingError("embedding", None, f"the name of the module that embeds tokens: {known}")
    return found[0]


def with_places(x: Tokens | MarkedTokens, length: int) -> Tokens | MarkedTokens:
    """Return texts ``[n, length + T]`` with places for a prompt behind the first token."""
    if not isinstance(x, Tokens | MarkedTokens):
        raise SettingError("network", "SoftPrompt", f"an encoder of a {type(x).__name__}: texts are Tokens")
    places = torch.zeros_like(x.ids[:, :1]).expand(-1, length)
    ids = torch.cat([x.ids[:, :1], places, x.ids[:, 1:]], dim=1)
    mask = torch.cat([x.mask[:, :1], torch.ones_like(places, dtype=torch.bool), x.mask[:, 1:]], dim=1)
    if isinstance(x, Tokens):
        return Tokens(ids, mask)
    return MarkedTokens(ids, mask, x.spans + length * (x.spans > 0))
