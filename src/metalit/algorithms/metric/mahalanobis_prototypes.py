"""Prototypes with Mahalanobis distances (Bateni et al. 2020, https://arxiv.org/abs/1912.03432; FS-Mol's ProtoNet).

    1  for each class k:  mu_k = mean of f(x) over S_k                                   (section 4.1)
    2  Q_k = lambda_k Sigma_k + (1 - lambda_k) Sigma + beta I,  lambda_k = |S_k| / (|S_k| + 1)   (equation 2)
    3  p(y = k | x) = softmax of -(f(x) - mu_k)' Q_k^-1 (f(x) - mu_k)                     (equation 1)

with f a network, Sigma_k and Sigma the covariances of the embeddings of a class and of the whole support set.
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.heads.mahalanobis import MahalanobisMeans


class MahalanobisPrototypes(MetricMetaLearner):
    """A prototypical network whose distances know the spread of each class; it has no parameters but the network's.

    Differences from the paper: the network is any encoder; it is not modulated by a task encoder, as in CNAPS. The
    paper's equation has a factor of 1/2, which its code leaves out, as we do (``scale: 0.5`` has it).

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        strength: beta, > 0. FS-Mol's code has 0.1.
        largest_share: upper limit of lambda_k, in [0, 1]. FS-Mol's code has 0.1.
        scale: factor of the distance, > 0.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        strength: float = 1.0,
        largest_share: float = 1.0,
        scale: float = 1.0,
        **learner: Any,
    ) -> None:
        super().__init__(network, MahalanobisMeans(strength, largest_share, scale), **learner)
