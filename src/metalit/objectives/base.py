"""The interface of objectives, which turn per-task results into the meta-loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from torch import Tensor

from metalit.episode import Labelled
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class LearnedTask(NamedTuple):
    """A task after adaptation by gradient descent, for objectives that use more than its query loss.

    Attributes:
        path: the adapted parameters before the first and after each inner step.
        adapted: names of the parameters that adapt.
        support: the support set, from which the task was learned.
        query: the query set, on which it is evaluated.
        loss: ``loss(parameters, examples)`` returns the mean loss of adapted parameters, 0-d.
        predict: ``predict(parameters, x)`` returns their predictions.
        learn: ``learn(examples)`` adapts from the start to other examples of the task and returns the path.
        resume: ``resume(parameters, examples, steps)`` takes further inner steps from given adapted parameters and
            returns the path.
    """

    path: list[Params]
    adapted: list[str]
    support: Labelled
    query: Labelled
    loss: Callable[[Params, Labelled], Tensor]
    predict: Callable[[Params, Any], Tensor]
    learn: Callable[[Labelled], list[Params]]
    resume: Callable[[Params, Labelled, int], list[Params]]


Measure = Callable[[LearnedTask], Params]


def measure_nothing(_: LearnedTask) -> Params:
    """Return no measurements, as for an objective that uses query losses only."""
    return {}


class Objective(ABC):
    """A pure function from the outcomes of all tasks to the scalar that training minimises.

    It has two parts: ``measure`` sees one task while it is learned, ``__call__`` sees the outcomes of all tasks with
    what was measured.

    Attributes:
        over_all_tasks: whether the objective compares tasks with one another, as opposed to being a mean of one term
            per task. It then receives the outcomes of all tasks at once, those of all chunks and, in distributed
            training, of all ranks; there without running statistics.
        uses_adaptation: whether ``measure`` is used, which requires a method that adapts by gradient descent.
    """

    # False saves an exchange between ranks, since DDP averages their gradients, and a forward pass with chunks
    over_all_tasks: ClassVar[bool] = False
    uses_adaptation: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the 0-d meta-loss."""

    def measure(self, task: LearnedTask) -> Params:
        """Return differentiable tensors of one task by name; ``__call__`` receives them in ``outcome.measured``."""
        return {}

    def at_epoch(self, epoch: int) -> "Objective":
        """Return the objective of a training epoch, counted from 0; the same in all epochs unless it is annealed."""
        return self

    def total(self, outcome: Outcome) -> Tensor:
        """Return the meta-loss plus the method's own penalties, 0-d."""
        return self(outcome) + sum(penalty.mean() for penalty in outcome.penalties.values())
