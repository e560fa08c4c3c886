"""Contrastive meta-losses: adapted parameters should be similar within a task and differ between tasks."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.episode import Labelled, labelled
from metalit.errors import UserError, at_least, check, not_negative
from metalit.functional.examples import one_per_example, selected
from metalit.functional.masks import mask_of, together
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision
from metalit.tasks.task_context import uniform_like

Representation = Literal["displacement", "weights"]


class ContrastiveAdaptation(Objective):
    """The mean query loss plus lambda times a hinge loss on distances between adapted parameters.

    Each task is learned twice, from its support set (a) and from its query set (b), which are disjoint and share the
    class labels. With the other tasks t' of the meta-batch, over all ranks,

        max(0, margin + d(a_t, b_t) - d(a_t, a_t'))   is averaged over all pairs of tasks t != t'.

    The distance d is 1 - cosine, so that a larger inner learning rate is not rewarded. It costs a second adaptation.

    Args:
        weight: lambda, >= 0; with 0 the objective is ``QueryLoss``.
        margin: how much farther apart different tasks should be than two samples of one task; a cosine distance in
            [0, 2].
        of: representation of a task: its ``displacement`` theta' - theta, or its adapted ``weights`` theta'.
    """

    over_all_tasks = True
    uses_adaptation = True

    def __init__(self, weight: float = 0.1, margin: float = 0.5, of: Representation = "displacement") -> None:
        self.weight, self.of = not_negative("weight", weight), of
        check("margin", margin, 0 <= margin <= 2, "a cosine distance, in [0, 2]")
        self.margin = margin

    def measure(self, task: LearnedTask) -> Params:
        """Return the task's representations learned from the support set and from the query set, ``[P]`` each."""
        return {
            "from_support": representation(task, task.path, self.of),
            "from_query": representation(task, task.learn(task.query), self.of),
        }

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean query loss plus the weighted hinge loss."""
        support, query = outcome.measured["from_support"], outcome.measured["from_query"]
        # rows are tasks t, columns the other tasks t'; the diagonal compares a task with itself and is left out
        same = cosine_distances(support, query).diagonal()
        hinge = F.relu(self.margin + same.unsqueeze(1) - cosine_distances(support, support))
        return outcome.loss.mean() + self.weight * mean_off_diagonal(hinge)


class ConML(Objective):
    """Contrastive meta-learning (Wu et al. 2024, https://arxiv.org/abs/2410.05975).

    The mean query loss + lambda (D_in - D_out). D_in is the mean distance between the representations of a task learned
    from all of its examples and from random subsets of them. D_out is the mean distance between the tasks of the
    meta-batch, over all ranks.

    Args:
        weight: lambda, >= 0; with 0 the objective is ``QueryLoss``.
        subsets: number of random subsets per task, each with as many examples of every class as the support set; >= 1.
            Each costs an adaptation.
        of: representation of a task: its adapted ``weights`` theta', as in the paper, or its ``displacement``
            theta' - theta.
    """

    over_all_tasks = True
    uses_adaptation = True

    def __init__(self, weight: float = 0.1, subsets: int = 1, of: Representation = "weights") -> None:
        self.weight, self.of = not_negative("weight", weight), of
        at_least(1, subsets=subsets)
        self.subsets = subsets

    def measure(self, task: LearnedTask) -> Params:
        """Return the task's representation ``[P]``, and its mean distance to those of random subsets, 0-d."""
        everything = together(task.support, task.query)
        whole = representation(task, task.learn(everything), self.of)
        parts = [
            representation(task, task.learn(random_subset(everything, task.support)), self.of)
            for _ in range(self.subsets)
        ]
        inner = torch.stack([cosine_distances(whole[None], part[None])[0, 0] for part in parts]).mean()
        return {"from_all": whole, "inner_distance": inner}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean query loss plus the weighted difference of distances."""
        whole, inner = outcome.measured["from_all"], outcome.measured["inner_distance"]
        outer = mean_off_diagonal(cosine_distances(whole, whole))
        return outcome.loss.mean() + self.weight * (inner.mean() - outer)


def representation(task: LearnedTask, path: list[Params], of: Representation) -> Tensor:
    """Return the adapted parameters at the end of a path, or their displacement, as one vector ``[P]``."""
    if of == "weights":
        return torch.cat([path[-1][name].flatten() for name in task.adapted])
    return torch.cat([(path[-1][name] - path[0][name]).flatten() for name in task.adapted])


def random_subset(examples: Labelled, support: Labelled) -> Labelled:
    """Return as many examples of one task as its support set has, of each class, drawn without replacement."""
    # drawn by the task's key, so that a resumed or distributed run draws the same subsets
    order = uniform_like(one_per_example(examples))
    real, learned = mask_of(examples), mask_of(support)
    if not support.y.is_floating_point():
        # a method that starts from class means cannot learn a class without an example
        of_same_class = (examples.y.unsqueeze(1) == examples.y) & real
        place = (of_same_class & (order < order.unsqueeze(1))).sum(dim=1)
        wanted = ((examples.y.unsqueeze(1) == support.y) & learned).sum(dim=1)
        order = order + (place >= wanted)
    # padding comes last, and of what is drawn only as many count as the support set has examples
    drawn: Labelled = selected(examples, (order + 2 * ~real).argsort()[: len(support.y)])
    if drawn.mask is None:
        return drawn
    return labelled(drawn.x, drawn.y, torch.arange(len(drawn.y), device=real.device) < learned.sum())


@full_precision
def cosine_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return 1 - cosine of all pairs of rows of ``a`` ``[n, P]`` and ``b`` ``[m, P]``, ``[n, m]`` in [0, 2]."""
    return 1 - F.normalize(a, dim=-1) @ F.normalize(b, dim=-1).T


def mean_off_diagonal(values: Tensor) -> Tensor:
    """Return the mean of the off-diagonal entries of a square matrix, 0-d.

    Raises:
        UserError: the matrix is 1 x 1, so that there are none.
    """
    tasks = len(values)
    if tasks < 2:
        raise UserError("tasks are compared with one another, but there is one: data.tasks_per_batch must be >= 2")
    return (values.sum() - values.diagonal().sum()) / (tasks * (tasks - 1))
