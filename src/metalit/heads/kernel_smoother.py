"""Kernel regression of Nadaraya and Watson on the embeddings of a task."""

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.functional.distances import squared_euclidean
from metalit.functional.masks import without_padding
from metalit.heads.base import Head
from metalit.heads.kernels import logarithm
from metalit.tasks.precision import full_precision

Points = tuple[Tensor, Tensor, Tensor | None]


class KernelSmoother(Head):
    """Predicts the mean of the support targets, weighted by a Gaussian kernel of the distance to the query.

        value at q = sum_i w_i y_i,    w = softmax_i(-||q - x_i||^2 / (2 bandwidth^2))

    Args:
        bandwidth: before training, > 0, in units of the embedding; learned through its logarithm.

    Raises:
        SettingError: the bandwidth is not positive.
    """

    classifies = False
    regresses = True
    honours_masks = True

    def __init__(self, bandwidth: float = 1.0) -> None:
        super().__init__()
        self.log_bandwidth = logarithm("bandwidth", bandwidth)

    def fit(self, support: Labelled, ways: int) -> Points:
        """Return the support set: embeddings ``[S, D]``, targets ``[S, outputs]``, and its mask if it has one."""
        return without_padding(support.x, support.mask), support.y, support.mask

    @full_precision
    def classify(self, fitted: Points, query: Tensor) -> Tensor:
        """Return values ``[Q, outputs]``."""
        x, y, mask = fitted
        logits = squared_euclidean(query, x) * (-0.5 * (-2 * self.log_bandwidth).exp())
        if mask is not None:
            logits = torch.where(mask, logits, torch.full_like(logits, -torch.inf))
        return logits.softmax(dim=-1) @ y.to(query.dtype)
