"""PyTorch functions in another form that computes the same numbers, and has right derivatives wherever it is mapped."""

import torch
import torch.nn.functional as F
from torch import Tensor


def one_hot(labels: Tensor, num_classes: int = -1) -> Tensor:
    """Compute ``F.one_hot``, which reads its labels' values: no ``vmap`` allows that where a gradient is taken."""
    if num_classes < 1:
        return F.one_hot(labels, num_classes)
    return (labels.unsqueeze(-1) == torch.arange(num_classes, device=labels.device)).long()


def channel_affine(out: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scale and shift ``[examples, channels, ...]`` per channel."""
    shape = (1, -1) + (1,) * (out.dim() - 2)
    if weight is not None and bias is not None:
        return torch.addcmul(bias.reshape(shape), out, weight.reshape(shape))  # one pass over memory, not two
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
    """Compute ``F.layer_norm`` with the affine part outside."""
    out = F.layer_norm(input, normalized_shape, None, None, eps)
    if weight is not None:
        out = out * weight
    return out if bias is None else out + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Compute ``F.embedding`` with a padding row that is a constant, in place of a rule of its backward pass.

    Raises:
        ValueError: ``max_norm``, with which torch writes into the weight.
    """
    if max_norm is not None:
        raise ValueError(
            f"an embedding has max_norm {max_norm}, with which torch writes into its weight wherever it is used, but a "
            "task must not change meta-parameters: leave max_norm out"
        )
    if padding_idx is None or scale_grad_by_freq or sparse:
        return F.embedding(input, weight, padding_idx, None, norm_type, scale_grad_by_freq, sparse)
    out = F.embedding(input, weight)
    is_padding = (input == padding_idx % len(weight)).unsqueeze(-1)
    return torch.where(is_padding, out.detach(), out)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """Compute ``F.hardsigmoid``, which torch gives no second derivative."""
    value = F.relu6(input + 3) / 6
    return input.copy_(value) if inplace else value
