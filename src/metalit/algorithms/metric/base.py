"""The base classes of methods that classify a query by comparing its embedding with those of the support set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from metalit.algorithms.meta_learner import MetaLearner
from metalit.algorithms.metric.base_mean import base_mean
from metalit.algorithms.pretrained import load_network
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.examples import count, joined
from metalit.functional.losses import task_loss
from metalit.functional.masks import masked_mean, together
from metalit.heads import EmbeddingTransform, Head, Step, Transformed
from metalit.networks.embedding_length import embedding_length
from metalit.networks.normalisation import use_running_statistics
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import Method, functional_call
from metalit.tasks.parameters import Params, scope
from metalit.tasks.precision import at_least_float32
from metalit.tasks.task_context import current_task

CENTRE = "head.transform.centre"  # where a learner's ``meta`` holds the centre of a ``Transformed`` head


class EmbeddingLearner(MetaLearner, ABC):
    """Embeds support and query sets and classifies with a head. Subclasses decide how it is trained.

    One model handles any number of ways: N is the largest support label plus one. Both sets are embedded in one pass
    where batch statistics matter: in training, and in evaluation if the network is transductive. Otherwise the
    prediction for a query depends on that query and the support set alone.

    Batch norms whose mode was not given use running statistics.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``, or to feature maps if the head takes those.
        head: classifies embedded queries.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: an objective that measures adapted parameters.
    """

    honours_masks = True  # if the head does, too

    def __init__(self, network: nn.Module, head: Head, **learner: Any) -> None:
        super().__init__(network, **learner)
        self.head = head
        self.honours_masks = self.honours_masks and head.honours_masks
        # in tuples: as plain attributes they would register the head's parameters a second time
        self._fit, self._classify = ((Method(head, name),) for name in ("fit", "classify"))
        # batch statistics would make the prediction for a query depend on the other queries
        use_running_statistics(self)
        if self.objective.uses_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} uses adapted parameters, and a metric-based method "
                "adapts none: use a gradient-based method"
            )

    def predicting(self) -> Sequence[nn.Module]:
        """Return the network and the head."""
        return [self.network, self.head]

    def setting(self) -> dict[str, Any]:
        """Add the transform, and mark a head that compares the queries with one another as transductive."""
        steps = {"transform": list(self.head.transform.steps)} if isinstance(self.head, Transformed) else {}
        return {**super().setting(), **steps, **({"transductive": True} if self.head.transductive else {})}

    def observe(self, meta: Params, examples: Labelled) -> None:
        """Move the head's centre, if it has one, towards the mean of the embeddings ``x [n, D]`` of a training task."""
        task = current_task()
        if task is not None and self.training and CENTRE in meta and isinstance(self.head, Transformed):
            # through the task context, as batch norm does: a write in place would fail under ``vmap``
            before = self.head.transform.before_centring(examples.x.detach())
            mean = masked_mean(at_least_float32(before), examples.mask)
            task.record(meta[CENTRE], mean, self.head.transform.momentum)

    def is_trained(self) -> bool:
        """Whether training changes any parameter; otherwise the method is evaluated as it is."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def setup(self, stage: str) -> None:
        """Load the pretrained network of a method that is not trained; a checkpoint is read later and replaces it.

        Raises:
            UserError: such a method is to be trained.
        """
        if self.is_trained():
            return
        if stage == "fit":
            raise UserError(
                f"{type(self).__name__} has no parameter to train: validate or test it as it is, or give it a network "
                "that is trained, and a method that pretrains a classifier the number of classes (model.classes)"
            )
        if self.pretrained is not None:
            load_network(self.network, self.pretrained)

    def prepare(self, data: object) -> None:
        """Add the centre of a method that is not trained."""
        super().prepare(data)
        self._centre_on_training_classes(data)

    def _lacks_centre(self) -> bool:
        """Whether the centre is needed and was neither observed in training, nor computed, nor read from a file."""
        transform = self.head.transform if isinstance(self.head, Transformed) else EmbeddingTransform()
        needed = transform.centre is not None and "centre" in transform.steps and not self.is_trained()
        return needed and transform.centre is not None and not transform.centre.any()

    def _centre_on_training_classes(self, data: object) -> None:
        if self._lacks_centre():
            assert isinstance(self.head, Transformed) and self.head.transform.centre is not None
            transform = self.head.transform
            mean = base_mean(lambda x: transform.before_centring(self.network(x)), data, self.device)
            self.head.transform.centre.copy_(mean)

    def fit(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Fit the head to an embedded support set; see ``Head``."""
        return self._fit[0].with_parameters(scope(meta, "head"), support, ways)

    def classify(self, meta: Params, fitted: Any, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]`` of embedded queries; see ``Head``."""
        return self._classify[0].with_parameters(scope(meta, "head"), fitted, query)  # type: ignore[no-any-return]

    def scores(self, meta: Params, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return logits ``[Q, N]`` of embedded queries, from a head fitted to the embedded support set."""
        return self.classify(meta, self.fit(meta, support, ways), query)

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the loss of a task, 0-d; the cross-entropy by default.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: embeddings and labels.
            query: embeddings and labels.
            scores: the logits ``[Q, N]`` returned by ``scores``.
        """
        return task_loss(scores, query.y, query.mask)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome as a single stage, T = 1: nothing is adapted."""
        support, query = self.embed_both(meta, support, query)
        scores = self.scores(meta, support, query.x, ways)
        return Outcome(self.loss(meta, support, query, scores).unsqueeze(0), scores.unsqueeze(0))

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse regression or classification if the head does not learn it."""
        if support.y.is_floating_point() and not self.head.regresses:
            raise UserError(
                f"{type(self).__name__} classifies, but the labels are floats: use R2D2, KernelRegression, "
                "DeepKernelTransfer or a gradient-based method"
            )
        if not support.y.is_floating_point() and not self.head.classifies:
            raise UserError(
                f"{type(self).__name__} predicts numbers, but the labels are integers: use a method that classifies, "
                "or give the targets as floats"
            )

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the fitted head, or for a transductive network what it is fitted to: support set and ways.

        Raises:
            UserError: the head's centre is not known.
        """
        if self._lacks_centre():
            raise UserError(
                "the step centre subtracts the mean over the training classes, which is not known yet: test or "
                "validate with a data module first, call decide(data), or leave the step out"
            )
        if self.transductive():
            return support, ways  # embedded with the queries
        return self.fit(meta, support._replace(x=self.embed(meta, support.x)), ways)

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's logits ``[n, N]`` for inputs ``[n, ...]``."""
        if self.transductive():
            support, ways = state
            return self.predict_jointly(meta, support, x, ways)
        return self.classify(meta, state, self.embed(meta, x))

    def predict_jointly(self, meta: Params, support: Labelled, x: Any, ways: int) -> Tensor:
        """Return logits ``[n, N]`` for inputs ``[n, ...]``, embedded together with the support set."""
        embedded, queries = self.embed_jointly(meta, support.x, x)
        return self.scores(meta, support._replace(x=embedded), queries, ways)

    def embed_both(self, meta: Params, support: Labelled, query: Labelled) -> tuple[Labelled, Labelled]:
        """Return support and query set with inputs replaced by embeddings ``[n, D]``."""
        self.check(meta, support, 0)
        # in training both sets share their batch statistics, as in the authors' code of prototypical networks
        if self.training or self.transductive():
            embedded, queries = self.embed_jointly(meta, support.x, query.x)
        else:
            embedded, queries = self.embed(meta, support.x), self.embed(meta, query.x)
        return support._replace(x=embedded), query._replace(x=queries)

    def embed_jointly(self, meta: Params, support: Any, query: Any) -> tuple[Tensor, Tensor]:
        """Return embeddings of both sets, ``[S, D]`` and ``[Q, D]``, computed in one pass."""
        embeddings, shots = self.embed(meta, joined(support, query)), count(support)
        return embeddings[:shots], embeddings[shots:]

    def embed(self, meta: Params, x: Any) -> Tensor:
        """Return embeddings ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))  # type: ignore[no-any-return]


class MetricMetaLearner(EmbeddingLearner, ABC):
    """Trains embedding and head on episodes like those of evaluation. An algorithm chooses the head.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``, or to feature maps if the head takes those.
        head: classifies embedded queries.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: an objective that measures adapted parameters.
    """

    @abstractmethod
    def __init__(self, network: nn.Module, head: Head, **learner: Any) -> None:
        super().__init__(network, head, **learner)

    def penalties(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Params:
        """Return the terms that the method adds to the meta-loss of a task, given its embeddings; none by default."""
        return {}

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Embed both sets, then score the queries against the support set."""
        support, query = self.embed_both(meta, support, query)
        self.observe(meta, together(support, query))
        scores = self.scores(meta, support, query.x, ways)
        penalties = self.penalties(meta, support, query, ways)
        return Outcome(self.loss(meta, support, query, scores), scores, penalties=penalties)


def with_transform(
    head: Head, steps: Sequence[Step], network: nn.Module, features: int | None, momentum: float = 0.01
) -> Head:
    """Return a head that sees embeddings after some steps; the head itself if there are none.

    Args:
        head: the head.
        steps: the steps of ``EmbeddingTransform``.
        network: the encoder, whose attribute ``features`` is D, if it has one.
        features: D, if the network does not say it; only the step ``centre`` needs it.
        momentum: of the running mean that the step ``centre`` subtracts.

    Raises:
        UserError: D is needed and not known, or a step is unknown.
    """
    if not steps:
        return head
    known = features is not None or isinstance(getattr(network, "features", None), int)
    length = embedding_length(network, features, "the method") if known or "centre" in steps else None
    return Transformed(head, EmbeddingTransform(steps, length, momentum))
