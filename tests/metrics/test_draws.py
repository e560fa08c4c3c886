"""Intervals over tasks and over their divisions, by hand."""

import math

import pytest
import torch

from metalit.errors import UserError
from metalit.evaluation.results import build_results
from metalit.metrics import Evaluation
from metalit.metrics.draws import summarise_tasks


def test_a_case_by_hand():
    # two tasks in three divisions: means of tasks 0.2 and 0.6, of divisions 0.35, 0.4 and 0.45
    values = torch.tensor([0.1, 0.6, 0.2, 0.6, 0.3, 0.6])
    found = summarise_tasks(values, 2)
    assert found.mean == pytest.approx(0.4)
    assert found.ci95 == pytest.approx(1.96 * (0.4 / math.sqrt(2)) / math.sqrt(2))
    assert found.ci95_draws == pytest.approx(1.96 * 0.05 / math.sqrt(3))
    assert (found.tasks, found.draws, found.undefined) == (2, 3, 0)


def test_undefined_values_are_counted_and_left_out():
    nan = math.nan
    found = summarise_tasks(torch.tensor([0.1, 0.5, nan, 0.3, nan, nan]), 3)
    assert found.mean == pytest.approx(0.35)
    assert found.ci95_draws == pytest.approx(0.0, abs=1e-6)
    assert (found.tasks, found.draws, found.undefined) == (2, 2, 3)


def test_a_metric_that_is_nowhere_defined():
    found = summarise_tasks(torch.full((4,), math.nan), 2)
    assert math.isnan(found.mean)
    assert (found.tasks, found.undefined) == (0, 4)


def test_one_division_has_no_interval_over_divisions():
    assert math.isnan(summarise_tasks(torch.tensor([0.1, 0.2]), 2).ci95_draws)


@pytest.mark.parametrize(("values", "tasks"), [([], 2), ([0.1, 0.2, 0.3], 2)])
def test_incomplete_divisions_are_refused(values, tasks):
    with pytest.raises(UserError):
        summarise_tasks(torch.tensor(values), tasks)


def test_results_state_both_intervals():
    values = {"delta_auprc": torch.tensor([[0.1], [0.6], [0.2], [0.6], [0.3], [0.6]], dtype=torch.float64)}
    evaluation = Evaluation(torch.arange(6), values)
    by_task = build_results("test", evaluation, {"tasks": {"test": 2}}, None, {})["metrics"]["delta_auprc"]
    expected = summarise_tasks(values["delta_auprc"][:, 0], 2)
    assert by_task["ci95"] == pytest.approx(expected.ci95)
    assert by_task["ci95_draws"] == pytest.approx(expected.ci95_draws)
    assert (by_task["tasks"], by_task["draws"]) == (2, 3)
    # one division of six tasks, other tasks, and an evaluation that was cut short are as before
    for split, tasks in (("test", 6), ("val", 2), ("test", 4)):
        plain = build_results("test", evaluation, {"tasks": {split: tasks}}, None, {})["metrics"]["delta_auprc"]
        assert plain == build_results("test", evaluation, {}, None, {})["metrics"]["delta_auprc"]
        assert plain["ci95"] < by_task["ci95"]
