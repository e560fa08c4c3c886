"""What a learner may ask of a data module, beside episodes."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from metalit.environments import Environment


@runtime_checkable
class TakesOver(Protocol):
    """A data module that uses what a training has found, such as the vocabulary of its texts.

    Lightning hands the state of a data module to one of the same class only, but a test may be on any other data.
    """

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Take over what belongs to the training, given the whole checkpoint."""
        ...


@runtime_checkable
class HasUnits(Protocol):
    """A data module that scales its targets, and reports errors in their own units."""

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` in their own units; logits and labels as they are."""
        ...


@runtime_checkable
class NamesMetrics(Protocol):
    """A data module that names the metrics of its tasks.

    Attributes:
        metrics: names of ``metalit.metrics.task_metrics``; empty for accuracy in classification, mse in regression.
    """

    metrics: Sequence[str]


@runtime_checkable
class HasEnvironment(Protocol):
    """A data module whose tasks are settings of an environment.

    Attributes:
        environment: where the learner acts.
        shots: trajectories before each inner step, in validation and test.
        queries: trajectories after the last inner step, in validation and test.
        train_shots: as ``shots``, in training.
        train_queries: as ``queries``, in training.
    """

    environment: Environment
    shots: int
    queries: int
    train_shots: int
    train_queries: int
