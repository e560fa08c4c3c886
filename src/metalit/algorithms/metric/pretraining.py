"""The base of methods that learn to tell all training classes apart, and build a classifier of new ones on top."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from metalit.algorithms.base import count_ways
from metalit.algorithms.metric.base import EmbeddingLearner
from metalit.episode import Labelled
from metalit.errors import SettingError, check
from metalit.functional.losses import task_loss
from metalit.heads import Head
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope


@runtime_checkable
class LabelledClasses(Protocol):
    """Data of classes, whose training labels can be those of the whole split.

    Attributes:
        train_labels: ``episode`` or ``split``.
    """

    train_labels: str

    @property
    def train_classes(self) -> int:
        """How many classes the training split has."""
        ...


class PretrainingLearner(EmbeddingLearner, ABC):
    """Trains embedding and a classifier of all training classes; in evaluation a head classifies the embeddings.

    A training episode is a mini-batch of labelled examples, of which support and query set are the same to it: it takes
    ``data.train_labels: split``.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``.
        classifier: from embeddings to logits ``[n, classes]``; of no use after training.
        head: how embedded queries are classified in evaluation.
        classes: C, classes of the training split, >= 2.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: fewer than two classes; at the start of training, another number of classes than the data have, or
            labels that are not those of the whole split.
    """

    @abstractmethod
    def __init__(self, network: nn.Module, classifier: nn.Module, head: Head, classes: int, **learner: Any) -> None:
        check("classes", classes, classes >= 2, "the number of training classes, at least 2")
        super().__init__(network, head, **learner)
        self.classifier, self.classes = classifier, classes

    def observe(self, meta: Params, embeddings: Tensor) -> None:
        """Note something of the embeddings ``[n, D]`` of a training batch; nothing by default."""

    def task(
        self,
        meta: Params,
        support: Labelled,
        query: Labelled,
        ways: int,
        measure: Measure = measure_nothing,
    ) -> Outcome:
        """Classify both sets among all training classes; predictions are those of the queries."""
        support, query = self.embed_both(meta, support, query)
        embeddings, labels = torch.cat([support.x, query.x]), torch.cat([support.y, query.y])
        self.observe(meta, embeddings.detach())
        logits = functional_call(self.classifier, scope(meta, "classifier"), (embeddings,))
        return Outcome(task_loss(logits, labels), logits[len(support.y) :])

    def ways_of(self, support: Labelled) -> int:
        """Return N in evaluation; in training the number of all classes, which does not vary from batch to batch."""
        return self.classes if self.training else count_ways(support)

    def on_fit_start(self) -> None:
        """Check the labels and the number of classes."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, LabelledClasses):
            return  # another source of batches does not say
        name = type(self).__name__
        if data.train_labels != "split":
            expected = f"split, for {name} learns to tell all training classes apart"
            raise SettingError("data.train_labels", data.train_labels, expected)
        found = data.train_classes
        if found != self.classes:
            raise SettingError("model.classes", self.classes, f"{found}, the classes of the training split")
