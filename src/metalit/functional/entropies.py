"""Shannon's and Tsallis' (alpha) entropies of predictions, and the alpha cross-entropy."""

from torch import Tensor

from metalit.tasks.precision import full_precision

SMALLEST = 1e-12  # added to a probability before its logarithm


@full_precision
def entropy(p: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the alpha-entropy of distributions, in nats for alpha = 1.

        H_alpha(p) = (1 - sum_k p_k^alpha) / (alpha - 1),    H_1(p) = - sum_k p_k log p_k, its limit

    (Tsallis 1988; Veilleux et al. 2021, equation 3.) With a large alpha it is less sensitive to small probabilities.

    Args:
        p: ``[..., N]``, probabilities that sum to 1.
        alpha: > 0.

    Returns:
        ``[...]``.

    >>> entropy(torch.tensor([0.5, 0.5]), alpha=2.0)
    tensor(0.5000)
    """
    if alpha == 1:
        return -(p * (p + SMALLEST).log()).sum(dim=-1)
    return (1 - p.pow(alpha).sum(dim=-1)) / (alpha - 1)


@full_precision
def marginal_entropy(p: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the alpha-entropy of the mean of distributions ``[n, N]``, 0-d."""
    return entropy(p.mean(dim=0), alpha)


@full_precision
def conditional_entropy(p: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the mean alpha-entropy of distributions ``[n, N]``, 0-d."""
    return entropy(p, alpha).mean()
