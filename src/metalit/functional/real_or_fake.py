"""N + 1 classes, the last being "fake", from N logits (Salimans et al. 2016, https://arxiv.org/abs/1606.03498, sec. 5).

A softmax does not change when a constant is added to all logits, so the logit of the fake class can be fixed at 0:

    p(k | x) = exp(l_k) / (Z + 1) for k <= N,   p(N + 1 | x) = 1 / (Z + 1),   Z = sum over k of exp(l_k)

Hence log p(k | x) = log p(k | x, k <= N) + log p(k <= N | x); the first term is the usual log-softmax over N classes.
"""

import torch.nn.functional as F
from torch import Tensor

from metalit.functional.losses import task_loss
from metalit.tasks.precision import full_precision


@full_precision
def label_loss(logits: Tensor, labels: Tensor, weight: float = 1.0) -> Tensor:
    """Return the mean of -log p(label | x, label <= N) - weight log p(label <= N | x) over real examples, 0-d.

    Args:
        logits: ``[n, N]``.
        labels: ``[n]`` int64, 0..N-1.
        weight: weight of the term for real versus fake; with 1 the loss is -log p(label | x), in nats.
    """
    return task_loss(logits, labels) + weight * real_loss(logits)


@full_precision
def real_loss(logits: Tensor) -> Tensor:
    """Return the mean of -log p(k <= N | x) for logits ``[n, N]``, in nats, 0-d."""
    # p(k <= N | x) = Z / (Z + 1) = sigmoid(log Z); softplus computes its negative log without overflow
    return F.softplus(-logits.logsumexp(dim=-1)).mean()


@full_precision
def fake_loss(logits: Tensor) -> Tensor:
    """Return the mean of -log p(N + 1 | x) for logits ``[n, N]``, in nats, 0-d."""
    return F.softplus(logits.logsumexp(dim=-1)).mean()
