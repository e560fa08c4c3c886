"""Mixtures of Gaussians as densities of a number."""

import math

import torch
from torch import Tensor


def log_mixture_density(x: Tensor, logits: Tensor, means: Tensor, spreads: Tensor) -> Tensor:
    """Return the logarithm of sum_k pi_k N(x; mu_k, sigma_k), with pi the softmax of ``logits``.

    Args:
        x: ``[...]``.
        logits: ``[..., K]``.
        means: mu ``[..., K]``, in units of ``x``.
        spreads: sigma ``[..., K]``, > 0, in units of ``x``.

    Returns:
        ``[...]``, in nats.
    """
    standard = (x.unsqueeze(-1) - means) / spreads
    normal = -0.5 * standard.square() - spreads.log() - 0.5 * math.log(2 * math.pi)
    return torch.logsumexp(logits.log_softmax(dim=-1) + normal, dim=-1)
