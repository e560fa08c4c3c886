"""SimpleShot (Wang et al. 2019, https://arxiv.org/abs/1911.04623), section 3.

1  train network f and a linear layer to classify all training classes, by the cross-entropy   (PretrainingLearner)
2  m = mean of f(x) over training examples                                                     (observe)
3  in the test, transform embeddings:  UN: f(x)   L2N: f(x) / |f(x)|   CL2N: (f(x) - m) / |f(x) - m|
4  a query goes to the class whose mean of transformed support embeddings is nearest           (NormalisedClassMean)
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
    """Transfers an ordinary classifier: the nearest class mean of normalised embeddings, nothing is fitted.

    Args:
        network: f, ``[n, ...]`` to ``[n, D]``.
        classes: C, classes of the training split, >= 2; ``data.train_labels: split`` numbers them.
        transform: which of line 3.
        momentum: share of a new batch in the running mean m, above 0 and at most 1.
        features: D; ``network.features`` if not given.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: a number outside its range, D is not known, or the data have other classes or labels.
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
        """Move the running mean of line 2 towards that of a training batch."""
        task = current_task()
        if task is not None and self.training:
            task.record(meta["head.centre"], at_least_float32(embeddings).mean(dim=0), self.momentum)
