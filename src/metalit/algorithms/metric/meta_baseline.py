"""Meta-Baseline (Chen et al. 2021, https://arxiv.org/abs/2003.04390), section 3.

1  train network f and a linear layer to classify all training classes               (Baseline, a separate run)
2  start from that f (``pretrained``), and sample tasks                              (MetaLearner, data module)
3  for each class k:  c_k = mean of f(x) over its support set                        (NearestClassMean)
4  minimise the cross-entropy of the queries' logits  tau cos(f(q), c_k)  over f and tau
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.heads import Cosine, NearestClassMean


class MetaBaseline(MetricMetaLearner):
    """Trains a pretrained embedding on episodes, with the cosine to the class means as logits.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``; give its initial weights as ``pretrained``.
        scale: initial tau, > 0; learned.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, scale: float = 10.0, **learner: Any) -> None:
        super().__init__(network, NearestClassMean(Cosine(scale, learn_scale=True)), **learner)
