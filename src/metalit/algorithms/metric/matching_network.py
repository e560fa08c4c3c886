"""Matching networks (Vinyals et al. 2016, https://arxiv.org/abs/1606.04080), equations 1 and 2.

    1  sample a task: a support set S and a query set                                      (data module)
    2  embed them:  f(q), g(x_i);  or, in view of all of S, f(q, S) and g(x_i, S)          (network, FullContext)
    3  a(q, x_i) = softmax_i(c(f(q), g(x_i))) over all support examples                    (SupportAttention)
    4  p(y | q, S) = sum_i a(q, x_i) [y_i = y]
    5  minimise -log p(y | q, S) over queries and tasks                                    (cross-entropy)

with c a scaled cosine. The logits are log p, of which the cross-entropy is line 5.
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.heads import Cosine, FullContext, Similarity, SupportAttention


class MatchingNetwork(MetricMetaLearner):
    """Classifies a query by attention over the support examples.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``; f and g are the same.
        similarity: c; ten times the cosine before training, the factor being learned, if not given.
        full_context: the embeddings of line 2 in view of the support set; left out if not given.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        similarity: Similarity | None = None,
        full_context: FullContext | None = None,
        **learner: Any,
    ) -> None:
        similarity = similarity or Cosine(10.0, learn_scale=True)
        super().__init__(network, SupportAttention(similarity, full_context), **learner)
