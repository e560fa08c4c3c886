"""The base class of embeddings that are fine-tuned for each task before their head is fitted."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from metalit.algorithms.metric.base import EmbeddingLearner
from metalit.episode import Labelled
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class FineTunedLearner(EmbeddingLearner, ABC):
    """Fine-tunes the network on the support set of a task in evaluation; how it is trained is another base class's."""

    @abstractmethod
    def fine_tuned(self, meta: Params, support: Labelled, ways: int) -> Params:
        """Return ``meta`` with the network's parameters after fine-tuning on one task's support set."""

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcomes before and after fine-tuning, T = 2."""
        before = super().evaluate_task(meta, support, query, ways)
        after = super().evaluate_task(self.fine_tuned(meta, support, ways), support, query, ways)
        return Outcome(torch.cat([before.loss, after.loss]), torch.cat([before.predictions, after.predictions]))

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the fine-tuned parameters that differ, by name, and the fitted head."""
        tuned = self.fine_tuned(meta, support, ways)
        changed = {name: value for name, value in tuned.items() if value is not meta[name]}
        return changed, super().learn(tuned, support, ways)

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's logits ``[n, N]`` for inputs ``[n, ...]``."""
        changed, fitted = state
        return super().predict({**meta, **changed}, fitted, x)
