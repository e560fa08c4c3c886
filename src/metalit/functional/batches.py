"""Examples in batches: texts of about equal length together, so that little of a batch is padding."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from metalit.episode import MarkedTokens, Tokens
from metalit.functional.examples import count, selected

MULTIPLE = 8  # of padded lengths: few different shapes, and those that matrix units like


def by_batches(function: Callable[[Any], Tensor], examples: Any, size: int) -> Tensor:
    """Return ``function`` of all examples, ``[n, ...]`` in their order, computed for at most ``size`` at once.

    Args:
        function: from examples ``[m, ...]`` to results ``[m, ...]``, each of which depends on its own example only.
        examples: a pytree of tensors ``[n, ...]``.
        size: examples in a batch.
    """
    rows, found = zip(*((rows, function(part)) for rows, part in in_batches(examples, size)), strict=True)
    results = torch.cat(found)
    return results.index_select(0, torch.cat(rows).argsort().to(results.device))


def in_batches(examples: Any, size: int) -> Iterator[tuple[Tensor, Any]]:
    """Yield the row numbers ``[m]`` and examples ``[m, ...]`` of each batch; one empty batch if there are none.

    Texts come from short to long, each batch without the padding that all of its texts have in common.
    """
    device = tree_leaves(examples)[0].device
    rows = torch.arange(count(examples), device=device)
    if isinstance(examples, Tokens | MarkedTokens):
        rows = lengths(examples).argsort(stable=True)
    for part in torch.split(rows, size):
        yield part, without_padding(selected(examples, part))


def without_padding(examples: Any) -> Any:
    """Return texts padded to the longest among them, a multiple of 8; other examples are returned unchanged."""
    if not isinstance(examples, Tokens | MarkedTokens) or not count(examples):
        return examples
    longest = padded(int(lengths(examples).max()))
    return examples._replace(ids=examples.ids[..., :longest], mask=examples.mask[..., :longest])


def padded(length: int) -> int:
    """Return the length to which texts are padded of which the longest has ``length`` tokens."""
    return -(-length // MULTIPLE) * MULTIPLE


def lengths(texts: Tokens | MarkedTokens) -> Tensor:
    """Return the number of tokens of each text, ``[n]``."""
    return texts.mask.sum(-1)
