"""SimpleShot (Wang et al. 2019, https://arxiv.org/abs/1911.04623), section 3.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  m = mean of f(x) over training examples                                                     (observe, base_centre)
3  at test time, transform embeddings:  UN: f(x)   L2N: f(x) / |f(x)|   CL2N: (f(x) - m) / |f(x) - m|
4  classify a query by the nearest class mean of transformed support embeddings                (NearestClassMean)
"""

from typing import Any, Literal

from torch import nn

from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.heads import EmbeddingTransform, NearestClassMean, SquaredEuclidean, Step, Transformed
from metalit.networks.embedding_length import embedding_length

STEPS: dict[str, tuple[Step, ...]] = {"UN": (), "L2N": ("l2",), "CL2N": ("centre", "l2")}


class SimpleShot(PretrainingLearner):
    """Transfers an ordinary classifier: nearest class mean of normalised embeddings, without fitting at test time.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``. Not
            given: the network is used as it is, and m is the mean over the training split.
        transform: the transformation of line 3.
        momentum: weight of a new batch in the running mean m, above 0 and at most 1.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, D is not known, or the data have other classes or labels.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        transform: Literal["UN", "L2N", "CL2N"] = "CL2N",
        momentum: float = 0.01,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        length = embedding_length(network, features, type(self).__name__)
        # the class means are not normalised again, only the embeddings they average
        steps = EmbeddingTransform(STEPS[transform], length, momentum)
        head = Transformed(NearestClassMean(SquaredEuclidean()), steps)
        super().__init__(network, linear_classifier(network, classes, length), head, classes, **learner)
