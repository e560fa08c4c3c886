"""How per-task results become one meta-loss."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, NamedTuple

from torch import Tensor

from metalit.episode import Labelled
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class LearnedTask(NamedTuple):
    """One task that has been learned by gradient descent, for objectives that look at more than its query loss.

    Attributes:
        path: the adapted parameters before the first and after each inner step.
        adapted: names of the parameters that adapt.
        support: what it was learned from.
        query: what it is judged on.
        loss: ``loss(parameters, examples)``, the mean loss of adapted parameters, 0-d.
        predict: ``predict(parameters, x)``, their predictions.
        learn: ``learn(examples)``, the path of learning from other examples of the task.
        resume: ``resume(parameters, examples, steps)``, the path of as many more inner steps from there.
    """

    path: list[Params]
    adapted: list[str]
    support: Labelled
    query: Labelled
    loss: Callable[[Params, Labelled], Tensor]
    predict: Callable[[Params, Tensor], Tensor]
    learn: Callable[[Labelled], list[Params]]
    resume: Callable[[Params, Labelled, int], list[Params]]


Measure = Callable[[LearnedTask], Params]


def measure_nothing(_: LearnedTask) -> Params:
    """Return nothing, as an objective does that looks at query losses alone."""
    return {}


class Objective(ABC):
    """A pure function from the outcome of all tasks to the scalar that training minimises.

    In two parts: ``measure`` looks at one task, where it is learned, and ``__call__`` at what was measured of all.

    Attributes:
        over_all_tasks: whether the objective compares tasks with one another, instead of being a mean of a term per
            task. Where several processes train together it is then given the outcomes of all their tasks, not only
            those of one process; running statistics are left out.
        looks_at_adaptation: whether ``measure`` is of use, which takes a method that learns by gradient descent.
    """

    over_all_tasks: ClassVar[bool] = False
    looks_at_adaptation: ClassVar[bool] = False

    @abstractmethod
    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the 0-d meta-loss."""

    def measure(self, task: LearnedTask) -> Params:
        """Return what ``__call__`` is to find in ``outcome.measured``, for one task: differentiable, by name."""
        return {}

    def at_epoch(self, epoch: int) -> "Objective":
        """Return the objective of an epoch of training, 0 being the first; the same in all unless it is annealed."""
        return self

    def total(self, outcome: Outcome) -> Tensor:
        """Return the meta-loss with the method's own penalties."""
        return self(outcome) + sum(penalty.mean() for penalty in outcome.penalties.values())
