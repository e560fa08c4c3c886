"""Metric-based meta-learning: a query is classified by comparing its embedding with those of the support set."""

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
from metalit.outcome import Outcome


class MetricMetaLearner(MetaLearner, ABC):
    """Embeds support and query in one pass and compares them. An algorithm writes ``scores`` alone.

    One model serves any number of ways: N is the largest support label plus one.

    Raises:
        ValueError: an objective that looks at adapted parameters.
    """

    def __init__(self, network: nn.Module, **learner: Any) -> None:
        super().__init__(network, **learner)
        if self.objective.looks_at_adaptation:
            raise ValueError(
                f"the objective {type(self.objective).__name__} looks at adapted parameters, and a metric-based method "
                "adapts none: use a gradient-based method"
            )

    @abstractmethod
    def scores(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Compare the embeddings of one task.

        Args:
            support: embeddings ``x [S, D]`` and labels ``y [S]``.
            query: embeddings ``[Q, D]``.
            ways: N.

        Returns:
            logits ``[Q, N]``.
        """

    def task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Embed both sets together, then score the queries against the support set."""
        if ways == 0:
            raise ValueError(
                "metric-based methods classify, but the labels are floats: use a gradient-based method"
            )
        embeddings = self.embed(meta, torch.cat([support.x, query.x]))
        shots, queries = embeddings[: len(support.y)], embeddings[len(support.y) :]
        logits = self.scores(Labelled(shots, support.y), queries, ways)
        return Outcome(task_loss(logits, query.y), logits)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome as the only stage, T = 1: nothing is adapted."""
        outcome = self.task(meta, support, query, ways)
        return Outcome(outcome.loss.unsqueeze(0), outcome.predictions.unsqueeze(0))

    @torch.no_grad()
    def adapt(self, support: Labelled) -> Callable[[Tensor], Tensor]:
        """Remember one task's support set and return its predictor."""
        return partial(self._predict_in_context, support, count_ways(support))

    def embed(self, meta: Params, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))  # type: ignore[no-any-return]

    @torch.no_grad()
    def _predict_in_context(self, support: Labelled, ways: int, x: Tensor) -> Tensor:
        meta = {name: value for part in self.meta() for name, value in part.items()}
        with self.context():
            embeddings = self.embed(meta, torch.cat([support.x, x]))
            shots, queries = embeddings[: len(support.y)], embeddings[len(support.y) :]
            return self.scores(Labelled(shots, support.y), queries, ways)
