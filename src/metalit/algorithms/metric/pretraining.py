"""The base class of methods that pretrain a classifier of all training classes, and classify new ones with a head."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, runtime_checkable

from torch import nn

from metalit.algorithms.metric.base import EmbeddingLearner
from metalit.algorithms.task_learner import count_ways
from metalit.episode import Labelled
from metalit.errors import SettingError, check
from metalit.functional.losses import task_loss
from metalit.functional.masks import together
from metalit.heads import Head
from metalit.networks.embedding_length import embedding_length
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

    Without ``classes`` nothing is trained: validation and test use the network as it is, e.g. ``torch.nn.Identity``
    over embeddings that were computed before, or with the weights of ``pretrained``.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``.
        classifier: maps embeddings to logits ``[n, classes]``; used in training only, None without ``classes``.
        head: classifies embedded queries in evaluation.
        classes: C, the number of classes of the training split, >= 2, or None.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: fewer than two classes; at the start of training, a number of classes that differs from the data's,
            or labels that are not global class labels.
    """

    @abstractmethod
    def __init__(
        self, network: nn.Module, classifier: nn.Module | None, head: Head, classes: int | None, **learner: Any
    ) -> None:
        check("classes", classes, classes is None or classes >= 2, "the number of training classes, at least 2")
        super().__init__(network, head, **learner)
        self.classifier = nn.Identity() if classifier is None else classifier
        self.classes = classes
        if classes is None:
            self.requires_grad_(False)

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Classify support and query examples among all training classes; return predictions for the queries."""
        support, query = self.embed_both(meta, support, query)
        examples = together(support, query)
        self.observe(meta, examples)
        logits = functional_call(self.classifier, scope(meta, "classifier"), (examples.x,))
        return Outcome(task_loss(logits, examples.y, examples.mask), logits[len(support.y) :])

    def ways_of(self, support: Labelled) -> int:
        """Return N in evaluation, and the number of training classes in training."""
        # the largest label of a mini-batch varies from batch to batch and is not the number of training classes
        return self.classes if self.training and self.classes is not None else count_ways(support)

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


def linear_classifier(
    network: nn.Module, classes: int | None, features: int | None, name: str = "the method"
) -> nn.Linear | None:
    """Return a linear layer from embeddings to the training classes, or None without ``classes``.

    Args:
        network: the encoder, whose attribute ``features`` is D, if it has one.
        classes: C, or None.
        features: D, if the network does not say it.
        name: name of the calling class, for the error message.

    Raises:
        UserError: D is neither given nor an attribute of the network.
    """
    # max: the learner reports too few classes, after the layer is built
    return None if classes is None else nn.Linear(embedding_length(network, features, name), max(classes, 1))
