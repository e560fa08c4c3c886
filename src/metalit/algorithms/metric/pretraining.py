"""The base class of methods that pretrain a classifier of all training classes, and classify new ones with a head."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from metalit.algorithms.metric.base import EmbeddingLearner
from metalit.algorithms.task_learner import count_ways
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
    """A data module of classes, whose training labels may be global class labels.

    Attributes:
        train_labels: ``episode``, labels 0..N-1 in each episode, or ``split``, global class labels.
    """

    train_labels: str

    @property
    def train_classes(self) -> int:
        """Number of classes of the training split."""
        ...


class PretrainingLearner(EmbeddingLearner, ABC):
    """Trains an embedding with a classifier of all training classes; in evaluation a head classifies the embeddings.

    A training episode serves as one mini-batch: support and query examples are treated alike. This needs global class
    labels, ``data.train_labels: split``.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``.
        classifier: maps embeddings to logits ``[n, classes]``; used in training only.
        head: classifies embedded queries in evaluation.
        classes: C, the number of classes of the training split, >= 2.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: fewer than two classes; at the start of training, a number of classes that differs from the data's,
            or labels that are not global class labels.
    """

    @abstractmethod
    def __init__(self, network: nn.Module, classifier: nn.Module, head: Head, classes: int, **learner: Any) -> None:
        check("classes", classes, classes >= 2, "the number of training classes, at least 2")
        super().__init__(network, head, **learner)
        self.classifier, self.classes = classifier, classes

    def observe(self, meta: Params, embeddings: Tensor) -> None:
        """Record statistics of the embeddings ``[n, D]`` of a training batch; nothing by default."""

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Classify support and query examples among all training classes; return predictions for the queries."""
        support, query = self.embed_both(meta, support, query)
        embeddings, labels = torch.cat([support.x, query.x]), torch.cat([support.y, query.y])
        self.observe(meta, embeddings.detach())
        logits = functional_call(self.classifier, scope(meta, "classifier"), (embeddings,))
        return Outcome(task_loss(logits, labels), logits[len(support.y) :])

    def ways_of(self, support: Labelled) -> int:
        """Return N in evaluation, and the number of training classes in training."""
        # the largest label of a mini-batch varies from batch to batch and is not the number of training classes
        return self.classes if self.training else count_ways(support)

    def on_fit_start(self) -> None:
        """Check that the data use global class labels and have ``classes`` training classes."""
        super().on_fit_start()
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, LabelledClasses):
            return  # other data sources do not declare their labels
        name = type(self).__name__
        if data.train_labels != "split":
            expected = f"split, for {name} learns to tell all training classes apart"
            raise SettingError("data.train_labels", data.train_labels, expected)
        found = data.train_classes
        if found != self.classes:
            raise SettingError("model.classes", self.classes, f"{found}, the classes of the training split")
