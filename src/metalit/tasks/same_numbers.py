"""PyTorch functions rewritten so that their derivatives are correct under ``vmap``, with the same values."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.errors import UserError


def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    """Compute ``F.one_hot`` without reading the labels' values, which ``vmap`` forbids where a gradient is taken."""
    # without a number of classes, torch has to read the largest label
    if num_classes < 1:
        return F.one_hot(labels, num_classes)
    return (labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)).long()


def channel_affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift ``[examples, channels, ...]`` per channel; this is the affine part of a fused norm."""
    shape = (1, -1) + (1,) * (out.dim() - 2)
    if weight is not None and bias is not None:
        return torch.addcmul(bias.reshape(shape), out, weight.reshape(shape))  # one pass over memory instead of two
    if weight is not None:
        out = out * weight.reshape(shape)
    return out if bias is None else out + bias.reshape(shape)


def layer_norm(
    input: Tensor,
    normalized_shape: list[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute ``F.layer_norm`` with the affine part applied outside the fused kernel."""
    out = F.layer_norm(input, normalized_shape, None, None, eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,  # noqa: ARG001
    scale_grad_by_freq: bool = False,
    sparse: bool = False,  # noqa: ARG001
) -> Tensor:
    """Compute ``F.embedding`` with a constant padding row and a gradient that is always dense.

    Raises:
        UserError: ``max_norm`` is given, with which torch writes into the weight.
    """
    if max_norm is not None:
        raise UserError(
            f"an embedding has max_norm {max_norm}, with which torch writes into its weight wherever it is used, but a "
            "task must not change meta-parameters: leave max_norm out"
        )
    # padding_idx is not passed on: with it, reverse mode over vmap is silently wrong (docs/guide/gradients.md)
    out = F.embedding(input, weight, scale_grad_by_freq=scale_grad_by_freq)
    if padding_idx is None:
        return out
    # torch gives the padding row no gradient, hence detach; the modulo turns a negative padding_idx into a row number
    return torch.where((input == padding_idx % len(weight)).unsqueeze(-1), out.detach(), out)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,  # noqa: ARG001
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,  # noqa: ARG001
    padding_idx: int | None = None,
) -> Tensor:
    """Compute ``F.embedding_bag`` of ids ``[n, words]`` from its definition; torch's has no second derivative.

    Raises:
        UserError: the bags are given by offsets, or ``max_norm`` is given.
    """
    if input.dim() != 2:
        raise UserError(
            "an embedding bag has offsets, with which torch gives it no second derivative: hand over ids [n, words], "
            "filled up with padding_idx"
        )
    # padding words are left out of the bag below, so the embedding itself needs no padding row
    words = embedding(input, weight, None, max_norm, norm_type, scale_grad_by_freq, sparse)
    if per_sample_weights is not None:
        words = words * per_sample_weights.unsqueeze(-1)
    counts = torch.ones_like(input, dtype=torch.bool)
    if padding_idx is not None:
        counts = input != padding_idx % len(weight)
    counts = counts.unsqueeze(-1)
    if mode == "max":
        largest = words.masked_fill(~counts, -torch.inf).max(dim=1).values
        return torch.where(counts.any(dim=1), largest, 0.0)  # 0 for a bag of padding only, as torch returns
    total = (words * counts).sum(dim=1)
    return total if mode == "sum" else total / counts.sum(dim=1).clamp(min=1)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Compute ``F.hardsigmoid``, for which torch has no second derivative."""
    value = F.relu6(input + 3) / 6
    return input.copy_(value) if inplace else value
