"""PT-MAP, power transform and maximum a posteriori (Hu, Gripon and Pateux 2021, https://arxiv.org/abs/2006.03806).

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  at test time, z = (f(x) + epsilon)^beta, scaled to unit length, centred on the mean of the support set or of the
   queries, and scaled to unit length again                                                    (TransportedMeans)
3  c_k = mean of the support embeddings of class k
4  repeat:  L_ik = |z_i - c_k|^2 over the queries;   P = Sinkhorn(L, rows 1, columns Q/N, lambda)
5           c_k <- c_k + alpha (sum_i P_ik z_i / sum_i P_ik - c_k), with the support examples and their labels among i
6  classify query i by P_i
"""

from typing import Any

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import TransportedMeans


class PTMAP(PretrainingLearner):
    """Class centres that follow an optimal transport of all queries to equally large classes: transductive.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``, best after a ReLU.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is.
        power: beta, > 0.
        sharpness: lambda of the transport, > 0.
        rate: alpha, above 0 and at most 1.
        iterations: repetitions of lines 4 and 5, >= 0.
        sinkhorn_iterations: iterations within line 4, >= 1.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, D is not known, or the data have other classes or labels.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        power: float = 0.5,
        sharpness: float = 10.0,
        rate: float = 0.2,
        iterations: int = 20,
        sinkhorn_iterations: int = 200,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = TransportedMeans(power, sharpness, rate, iterations, sinkhorn_iterations)
        super().__init__(network, linear_classifier(network, classes, features), head, classes, **learner)
