"""What evaluation asks of a learner; every ``MetaLearner`` gives it."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from metalit.episode import Episode, Labelled
from metalit.metrics.episode_values import Evaluation
from metalit.outcome import Outcome


class EvaluatedLearner(Protocol):
    """The side of a meta-learner that evaluation sees.

    Attributes:
        last_evaluation: the values of the last evaluation epoch; ``None`` before the first.
    """

    last_evaluation: Evaluation | None

    @property
    def device(self) -> torch.device | str:
        """Where the learner computes."""
        ...

    def setting(self) -> dict[str, Any]:
        """Return what a reader of a result must know about the method."""
        ...

    def evaluate(self, episode: Episode) -> Outcome:
        """Return the tasks' outcome at each stage of adaptation: loss ``[B, T]``, predictions ``[B, T, ...]``."""
        ...


@runtime_checkable
class GeneratingLearner(Protocol):
    """A learner that generates examples of a task."""

    def generated_examples(self, support: Labelled) -> Tensor:
        """Return generated examples ``[B, n, ...]`` for support sets ``[B, S, ...]``."""
        ...
