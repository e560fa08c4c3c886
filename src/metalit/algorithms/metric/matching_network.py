"""Matching networks (Vinyals et al. 2016, https://arxiv.org/abs/1606.04080), equations 1 and 2.

    1  sample a task: a support set S and a query set                                      (data module)
    2  embed them:  f(q), g(x_i);  or in the context of S:  f(q, S) and g(x_i, S)          (network, FullContext)
    3  a(q, x_i) = softmax_i(c(f(q), g(x_i))) over all support examples                    (SupportAttention)
    4  p(y | q, S) = sum_i a(q, x_i) [y_i = y]
    5  minimise -log p(y | q, S) over queries and tasks                                    (cross-entropy)

with c a scaled cosine. The logits are log p, so line 5 is their cross-entropy.
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.heads import Cosine, FullContext, Similarity, SupportAttention


class MatchingNetwork(MetricMetaLearner):
    """Classifies a query by attention over the support examples.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``, used as both f and g.
        similarity: c; default: the cosine times a learned factor, initially 10.
        full_context: embeds examples in the context of the support set (line 2); default: none.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        similarity: Similarity | None = None,
        full_context: FullContext | None = None,
        **learner: Any,
    ) -> None:
        # a softmax of bare cosines, all between -1 and 1, is nearly uniform
        similarity = similarity or Cosine(10.0, learn_scale=True)
        super().__init__(network, SupportAttention(similarity, full_context), **learner)
