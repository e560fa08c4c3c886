"""The interface that evaluation needs of a learner; every ``MetaLearner`` has it."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from metalit.episode import Episode, Labelled
from metalit.metrics.episode_values import Evaluation
from metalit.outcome import Outcome


class EvaluatedLearner(Protocol):
    """The part of a meta-learner that evaluation uses.

    Attributes:
        last_evaluation: the values of the last evaluation epoch; None before the first.
    """

    last_evaluation: Evaluation | None

    @property
    def device(self) -> torch.device | str:
        """The device of the learner's parameters."""
        ...

    def setting(self) -> dict[str, Any]:
        """Return the settings of the algorithm that a reader of its results must know."""
        ...

    def evaluate(self, episode: Episode) -> Outcome:
        """Return the outcome of each task at each stage of adaptation: loss ``[B, T]``, predictions ``[B, T, ...]``."""
        ...


@runtime_checkable
class GeneratingLearner(Protocol):
    """A learner that generates examples for a task."""

    def generated_examples(self, support: Labelled) -> Tensor:
        """Return generated examples ``[B, n, ...]`` for support sets ``[B, S, ...]``."""
        ...
