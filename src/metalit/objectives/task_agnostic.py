"""Meta-losses that reduce a bias towards some tasks (Jamal and Qi 2019, https://arxiv.org/abs/1805.07722)."""

from typing import Literal

import torch
from torch import Tensor

from metalit.errors import UserError, check, not_negative
from metalit.functional.inequality import (
    atkinson,
    generalised_entropy,
    gini,
    theil,
    variance_of_logs,
)
from metalit.functional.masks import masked_mean, without_padding
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision

Inequality = Literal["theil", "generalised_entropy", "atkinson", "gini", "variance_of_logs"]


class MaxMinEntropy(Objective):
    """The mean over tasks of L_Q + lambda (H(f_theta') - H(f_theta)), H the mean entropy of predictions in nats.

    Predictions on the support inputs should have high entropy before adaptation and low entropy after it (section 3.1).
    For classification only.

    Args:
        weight: lambda, >= 0; with 0 the objective is ``QueryLoss``.
    """

    uses_adaptation = True

    def __init__(self, weight: float = 0.1) -> None:
        self.weight = not_negative("weight", weight)

    def measure(self, task: LearnedTask) -> Params:
        """Return the mean entropy of predictions on the support inputs before and after adaptation, 0-d each.

        Raises:
            UserError: the labels are floats.
        """
        if task.support.y.is_floating_point():
            raise UserError("the entropy of predictions needs classes, but the labels are floats: use TaskInequality")
        x, mask = task.support.x, task.support.mask
        before, after = (mean_entropy(task.predict(path, x), mask) for path in (task.path[0], task.path[-1]))
        return {"entropy_before": before, "entropy_after": after}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean query loss plus the weighted change in entropy."""
        before, after = outcome.measured["entropy_before"], outcome.measured["entropy_after"]
        return torch.mean(outcome.loss + self.weight * (after - before))


class TaskInequality(Objective):
    """The mean query loss + lambda I(L_1(f_theta), ..., L_B(f_theta)), I the inequality of losses before adaptation.

    I compares all tasks of a meta-batch, over all ranks. The losses are those on the support sets (section 3.2).

    Args:
        measure: the measure of inequality I.
        weight: lambda, >= 0; with 0 the objective is ``QueryLoss``. All measures are invariant to the scale of the
            losses.
        parameter: alpha of ``generalised_entropy``, or epsilon > 0 of ``atkinson``; ignored by the other measures.

    Raises:
        SettingError: a number is out of its range.
    """

    over_all_tasks = True
    uses_adaptation = True

    def __init__(self, measure: Inequality = "theil", weight: float = 0.1, parameter: float = 2.0) -> None:
        self.inequality, self.parameter = measure, parameter
        self.weight = not_negative("weight", weight)
        is_right = measure != "atkinson" or parameter > 0
        check("parameter", parameter, is_right, "above 0: it is the epsilon of atkinson")

    def measure(self, task: LearnedTask) -> Params:
        """Return the support loss before adaptation."""
        return {"loss_before": task.loss(task.path[0], task.support)}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean query loss plus the weighted inequality."""
        return outcome.loss.mean() + self.weight * self.of(outcome.measured["loss_before"])

    def of(self, losses: Tensor) -> Tensor:
        """Return the inequality of losses ``[M]``, 0-d.

        Raises:
            UserError: there is only one loss.
        """
        # the inequality of a single loss is 0: the term would silently do nothing
        if len(losses) < 2:
            raise UserError("inequality is between tasks, but there is one: data.tasks_per_batch must be >= 2")
        match self.inequality:
            case "generalised_entropy":
                return generalised_entropy(losses, self.parameter)
            case "atkinson":
                return atkinson(losses, self.parameter)
        return {"theil": theil, "gini": gini, "variance_of_logs": variance_of_logs}[self.inequality](losses)


@full_precision
def mean_entropy(logits: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean entropy of the predictions of logits ``[n, N]``, in nats, 0-d in [0, ln N].

    Places where ``mask [n]`` is False do not count.
    """
    log_probability = torch.log_softmax(without_padding(logits, mask), dim=-1)
    # from log-probabilities: p log p of a probability that underflows to 0 would be NaN
    return masked_mean(-(log_probability.exp() * log_probability).sum(dim=-1), mask)
