"""SimpleShot (Wang et al. 2019, https://arxiv.org/abs/1911.04623), section 3.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  m = mean of f(x) over training examples                                                     (observe)
3  at test time, transform embeddings:  UN: f(x)   L2N: f(x) / |f(x)|   CL2N: (f(x) - m) / |f(x) - m|
4  classify a query by the nearest class mean of transformed support embeddings                (NormalisedClassMean)
"""

from typing import Any, Literal

from torch import Tensor, nn

from metalit.algorithms.metric.pretraining import PretrainingLearner
from metalit.errors import check
from metalit.heads import NormalisedClassMean
from metalit.networks.embedding_length import embedding_length
from metalit.tasks.parameters import Params
from metalit.tasks.precision import at_least_float32
from metalit.tasks.task_context import current_task


class SimpleShot(PretrainingLearner):
    """Transfers an ordinary classifier: nearest class mean of normalised embeddings, without fitting at test time.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``.
        classes: C, the number of classes of the training split, >= 2; use it with ``data.train_labels: split``.
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
        classes: int,
        transform: Literal["UN", "L2N", "CL2N"] = "CL2N",
        momentum: float = 0.01,
        features: int | None = None,
        **learner: Any,
    ) -> None:
        check("momentum", momentum, 0 < momentum <= 1, "a number in (0, 1]")
        length = embedding_length(network, features, type(self).__name__)
        classifier, head = nn.Linear(length, max(classes, 1)), NormalisedClassMean(length, transform)
        super().__init__(network, classifier, head, classes, **learner)
        self.momentum = momentum

    def observe(self, meta: Params, embeddings: Tensor) -> None:
        """Move the running mean of line 2 towards the mean of a training batch."""
        # through the task context, as batch norm does: a write in place would fail under ``vmap``
        task = current_task()
        if task is not None and self.training:
            task.record(meta["head.centre"], at_least_float32(embeddings).mean(dim=0), self.momentum)
