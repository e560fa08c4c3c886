"""Relation networks (Sung et al. 2018, https://arxiv.org/abs/1711.06025), section 3.

    1  sample a task: a support set and a query set                                            (data module)
    2  embed both as maps f(x)                                                                 (network)
    3  for each class k:  c_k = sum of f(x) over its support examples                          (LearnedRelation)
    4  for each query q and class k:  r_qk = sigmoid(g([c_k, f(q)])), stacked along channels   (RelationModule)
    5  minimise  sum over q, k of (r_qk - [k is the class of q])^2

The predictions are the logits of line 4, before the sigmoid, which rank the classes as r does.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.masks import masked_mean
from metalit.heads import LearnedRelation
from metalit.networks import ConvMaps, RelationModule
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision


class RelationNetwork(MetricMetaLearner):
    """Learns both the embedding and the comparison of query and class.

    A model fits one number of shots, because line 3 is a sum over shots and not a mean.

    Args:
        network: the embedding f, ``[n, ...]`` to feature maps ``[n, C, H, W]``.
        relation: the relation module g, ``[n, 2 C, H, W]`` to logits ``[n]``. Default, for a network ``ConvMaps``: a
            ``RelationModule`` for its maps, with the same batch-norm mode.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: no relation module is given, and the network is not ``ConvMaps``.
    """

    def __init__(self, network: nn.Module, relation: nn.Module | None = None, **learner: Any) -> None:
        super().__init__(network, LearnedRelation(relation or fitting(network)), **learner)

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the squared error of line 5, as a mean over queries and classes."""
        return squared_error(scores, query.y, query.mask)


@full_precision
def squared_error(logits: Tensor, labels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared difference between sigmoid(logits) ``[Q, N]`` and one-hot labels ``[Q]``, 0-d."""
    errors = logits.sigmoid() - F.one_hot(labels, logits.shape[-1])
    return masked_mean(errors.square(), mask).mean()


def fitting(network: nn.Module) -> RelationModule:
    """Return a relation module for the feature maps of a network."""
    if not isinstance(network, ConvMaps):
        raise UserError(f"{type(network).__name__} does not say what maps it makes: give RelationNetwork(relation=...)")
    return RelationModule(
        network.channels,
        network.size,
        batch_norm=network.batch_norm,
        channels_last=network.channels_last,
    )
