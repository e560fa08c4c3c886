"""The base of methods that classify an example by comparing its embedding with those of the support set."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalit.algorithms.base import MetaLearner, count_ways
from metalit.episode import Labelled
from metalit.functional.losses import task_loss
from metalit.functional.parameters import Params, scope
from metalit.heads import Head
from metalit.outcome import Outcome


class EmbeddingLearner(MetaLearner, ABC):
    """Embeds support and query in one pass and lets a head classify; how it is trained is left open.

    One model serves any number of ways: N is the largest support label plus one.

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
        if self.objective.looks_at_adaptation:
            raise ValueError(
                f"the objective {type(self.objective).__name__} looks at adapted parameters, and a metric-based method "
                "adapts none: use a gradient-based method"
            )

    def scores(self, meta: Params, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Classify the embeddings of one task; see ``Head`` for the shapes."""
        return functional_call(self.head, scope(meta, "head"), (support, query, ways))  # type: ignore[no-any-return]

    def loss(self, meta: Params, support: Labelled, query: Labelled, scores: Tensor) -> Tensor:
        """Return the loss of a task, 0-d: the cross-entropy, if an algorithm has no other.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: embeddings and labels.
            query: embeddings and labels.
            scores: ``[Q, N]``, what ``scores`` has made of them.
        """
        return task_loss(scores, query.y)

    def classify(self, meta: Params, support: Labelled, x: Tensor, ways: int) -> Tensor:
        """Return one task's logits ``[n, N]`` for inputs ``[n, ...]``."""
        unlabelled = Labelled(x, support.y.new_zeros(len(x)))
        embedded, query = self.embed_both(meta, support, unlabelled)
        return self.scores(meta, embedded, query.x, ways)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome as the only stage, T = 1: nothing is adapted."""
        support, query = self.embed_both(meta, support, query)
        scores = self.scores(meta, support, query.x, ways)
        return Outcome(self.loss(meta, support, query, scores).unsqueeze(0), scores.unsqueeze(0))

    @torch.no_grad()
    def adapt(self, support: Labelled) -> Callable[[Tensor], Tensor]:
        """Remember one task's support set and return its predictor."""
        return partial(self._predict_in_context, support, count_ways(support))

    def embed_both(self, meta: Params, support: Labelled, query: Labelled) -> tuple[Labelled, Labelled]:
        """Return support and query with embeddings ``[n, D]`` for inputs, computed in one pass."""
        if support.y.is_floating_point():
            raise ValueError(
                "metric-based methods classify, but the labels are floats: use a gradient-based method"
            )
        embeddings = self.embed(meta, torch.cat([support.x, query.x]))
        shots = len(support.y)
        return Labelled(embeddings[:shots], support.y), Labelled(embeddings[shots:], query.y)

    def embed(self, meta: Params, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _predict_in_context(self, support: Labelled, ways: int, x: Tensor) -> Tensor:
        meta = self.tensors()
        with self.context():
            return self.classify(meta, support, x, ways)


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

    def task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Embed both sets together, then score the queries against the support set."""
        support, query = self.embed_both(meta, support, query)
        scores = self.scores(meta, support, query.x, ways)
        penalties = self.penalties(meta, support, query, ways)
        return Outcome(self.loss(meta, support, query, scores), scores, penalties=penalties)
