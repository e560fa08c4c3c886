"""Meta-Baseline (Chen et al. 2021, https://arxiv.org/abs/2003.04390), section 3.

1  train network f and a linear layer to classify all training classes               (Baseline, a run of its own)
2  start from that f (``pretrained``), and sample tasks                              (MetaLearner, data module)
3  for each class k:  c_k = mean of f(x) over its support set                        (NearestClassMean)
4  minimise the cross-entropy of the queries' logits  tau cos(f(q), c_k)  over f and tau
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.heads import Cosine, NearestClassMean


class MetaBaseline(MetricMetaLearner):
    """Goes on from an ordinary classifier by training on episodes, with the nearest mean by cosine.

    Args:
        network: f, ``[n, ...]`` to ``[n, D]``; ``pretrained`` says where it starts.
        scale: tau before training, > 0; learned.
        **learner: the settings of ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, scale: float = 10.0, **learner: Any) -> None:
        super().__init__(network, NearestClassMean(Cosine(scale, learn_scale=True)), **learner)
