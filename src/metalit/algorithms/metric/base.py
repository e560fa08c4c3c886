"""The base of methods that classify an example by comparing its embedding with those of the support set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from metalit.algorithms.base import MetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.examples import count, joined
from metalit.functional.losses import task_loss
from metalit.heads import Head
from metalit.networks.normalisation import use_running_statistics
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import Method, functional_call
from metalit.tasks.parameters import Params, scope


class EmbeddingLearner(MetaLearner, ABC):
    """Embeds support and query and lets a head classify; how it is trained is left open.

    One model serves any number of ways: N is the largest support label plus one. Both sets are embedded in one pass
    where statistics of a batch matter: in training, and in evaluation if the network is transductive. Else a query's
    prediction depends on nothing but the query and the support set.

    Batch norm whose mode was left open has running statistics.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``; or to maps, if the head takes those.
        head: how embedded queries are classified.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: an objective that looks at adapted parameters.
    """

    def __init__(self, network: nn.Module, head: Head, **learner: Any) -> None:
        super().__init__(network, **learner)
        self.head = head
        self._fit, self._classify = ((Method(head, name),) for name in ("fit", "classify"))
        use_running_statistics(self)
        if self.objective.looks_at_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} looks at adapted parameters, and a metric-based method "
                "adapts none: use a gradient-based method"
            )

    def predicting(self) -> Sequence[nn.Module]:
        """Return the networks that have a part in predictions."""
        return [self.network, self.head]

    def fit(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the head's classifier, fitted to embeddings; see ``Head``."""
        return self._fit[0].with_parameters(scope(meta, "head"), support, ways)

    def classify(self, meta: Params, fitted: Any, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]`` of embedded queries; see ``Head``."""
        return self._classify[0].with_parameters(scope(meta, "head"), fitted, query)  # type: ignore[no-any-return]

    def scores(self, meta: Params, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Return logits ``[Q, N]`` of embedded queries, by a classifier fitted to the embedded support set."""
        return self.classify(meta, self.fit(meta, support, ways), query)

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the loss of a task, 0-d: the cross-entropy, if an algorithm has no other.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: embeddings and labels.
            query: embeddings and labels.
            scores: ``[Q, N]``, what ``scores`` has made of them.
        """
        return task_loss(scores, query.y)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome as the only stage, T = 1: nothing is adapted."""
        support, query = self.embed_both(meta, support, query)
        scores = self.scores(meta, support, query.x, ways)
        return Outcome(self.loss(meta, support, query, scores).unsqueeze(0), scores.unsqueeze(0))

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse regression."""
        if support.y.is_floating_point():
            raise UserError("metric-based methods classify, but the labels are floats: use a gradient-based method")

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the fitted classifier; of a transductive network the support set, to be embedded with the queries."""
        if self.transductive():
            return support
        return self.fit(meta, Labelled(self.embed(meta, support.x), support.y), ways)

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's logits ``[n, N]`` for inputs ``[n, ...]``."""
        if self.transductive():
            return self.predict_jointly(meta, state, x, self.ways_of(state))
        return self.classify(meta, state, self.embed(meta, x))

    def predict_jointly(self, meta: Params, support: Labelled, x: Any, ways: int) -> Tensor:
        """Return logits ``[n, N]`` for inputs ``[n, ...]`` that are embedded together with the support set."""
        embedded, queries = self.embed_jointly(meta, support.x, x)
        return self.scores(meta, Labelled(embedded, support.y), queries, ways)

    def embed_both(self, meta: Params, support: Labelled, query: Labelled) -> tuple[Labelled, Labelled]:
        """Return support and query with embeddings ``[n, D]`` for inputs."""
        self.check(meta, support, 0)
        if self.training or self.transductive():
            embedded, queries = self.embed_jointly(meta, support.x, query.x)
        else:
            embedded, queries = self.embed(meta, support.x), self.embed(meta, query.x)
        return Labelled(embedded, support.y), Labelled(queries, query.y)

    def embed_jointly(self, meta: Params, support: Any, query: Any) -> tuple[Tensor, Tensor]:
        """Return embeddings of both sets, ``[S, D]`` and ``[Q, D]``, computed in one pass."""
        embeddings, shots = self.embed(meta, joined(support, query)), count(support)
        return embeddings[:shots], embeddings[shots:]

    def embed(self, meta: Params, x: Any) -> Tensor:
        """Return embeddings ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))  # type: ignore[no-any-return]


class MetricMetaLearner(EmbeddingLearner, ABC):
    """Learns embedding and head from episodes, as it is tested. An algorithm chooses the head.

    Args:
        network: the embedding, ``[n, ...]`` to ``[n, D]``; or to maps, if the head takes those.
        head: how embedded queries are classified.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: an objective that looks at adapted parameters.
    """

    @abstractmethod
    def __init__(self, network: nn.Module, head: Head, **learner: Any) -> None:
        super().__init__(network, head, **learner)

    def penalties(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Params:
        """Return the terms that the method adds to the meta-loss of a task, from the embeddings; none by default."""
        return {}

    def task(
        self,
        meta: Params,
        support: Labelled,
        query: Labelled,
        ways: int,
        measure: Measure = measure_nothing,
    ) -> Outcome:
        """Embed both sets together, then score the queries against the support set."""
        support, query = self.embed_both(meta, support, query)
        scores = self.scores(meta, support, query.x, ways)
        penalties = self.penalties(meta, support, query, ways)
        return Outcome(self.loss(meta, support, query, scores), scores, penalties=penalties)
