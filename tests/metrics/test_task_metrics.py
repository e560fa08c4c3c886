"""Metrics of single tasks, against scikit-learn, scipy and torchmetrics."""

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import average_precision_score
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.functional.regression import mean_squared_error, pearson_corrcoef, spearman_corrcoef

from metalit.errors import SettingError, UserError
from metalit.metrics import check_metrics, episode_metrics, primary_metric
from metalit.metrics.task_metrics import (
    OF_CLASSIFICATION,
    OF_REGRESSION,
    accuracy,
    average_precision,
    delta_auprc,
    mse,
    pearson,
    rmse,
    spearman,
)

GENERATOR = torch.Generator().manual_seed(0)
EXACT = {"rtol": 0, "atol": 1e-12}


def numbers(tasks=5, queries=30, ties=True):
    """Predictions and targets ``[tasks, queries, 1]`` in float64, many of them equal."""
    values = torch.randn(2, tasks, queries, 1, generator=GENERATOR, dtype=torch.float64)
    return tuple((2 * values).round() if ties else values)


def labels(tasks=5, queries=30):
    """Logits ``[tasks, queries, 2]`` of which many differences are equal, and labels of both classes."""
    scores = (2 * torch.randn(tasks, queries, generator=GENERATOR, dtype=torch.float64)).round()
    offset = torch.randint(-8, 8, scores.shape, generator=GENERATOR) / 4.0  # exact, as the scores are
    y = torch.randint(2, (tasks, queries), generator=GENERATOR)
    y[:, 0], y[:, 1] = 0, 1
    return torch.stack([offset, offset + scores], dim=-1), y, scores


@pytest.mark.parametrize("ties", [False, True])
def test_regression_metrics_are_those_of_scipy_and_torchmetrics(ties):
    predictions, targets = numbers(ties=ties)
    for task in range(len(targets)):
        a, b = predictions[task, :, 0], targets[task, :, 0]
        one = predictions[task : task + 1], targets[task : task + 1]
        expected = torch.tensor([pearsonr(a, b).statistic, spearmanr(a, b).statistic])
        torch.testing.assert_close(torch.cat([pearson(*one), spearman(*one)]), expected.double(), **EXACT)
        others = torch.stack([pearson_corrcoef(a, b), spearman_corrcoef(a, b)])
        torch.testing.assert_close(torch.cat([pearson(*one), spearman(*one)]), others, rtol=0, atol=1e-7)
        torch.testing.assert_close(mse(*one)[0], mean_squared_error(a, b), **EXACT)
        torch.testing.assert_close(rmse(*one)[0], mean_squared_error(a, b, squared=False), **EXACT)


def test_average_precision_is_that_of_scikit_learn_with_ties():
    logits, y, scores = labels()
    areas = [average_precision_score(*pair) for pair in zip(y, scores, strict=True)]
    expected = torch.tensor(areas, dtype=torch.float64)
    found = average_precision(logits, y)
    torch.testing.assert_close(found, expected, **EXACT)
    others = [binary_average_precision(s.sigmoid(), t) for s, t in zip(scores, y, strict=True)]
    torch.testing.assert_close(found, torch.stack(others).double(), rtol=0, atol=1e-6)
    torch.testing.assert_close(delta_auprc(logits, y), expected - y.double().mean(dim=1), **EXACT)


def test_delta_auprc_of_a_case_by_hand():
    # ranked: right, wrong, right, wrong; precision 1 and 2/3 at the two of class 1, whose share is 1/2
    logits = torch.tensor([[[0.0, 4.0], [0.0, 3.0], [0.0, 2.0], [0.0, 1.0]]])
    found = delta_auprc(logits, torch.tensor([[1, 0, 1, 0]]))
    torch.testing.assert_close(found, torch.tensor([(1 + 2 / 3) / 2 - 1 / 2]))


REGRESSION = [mse, rmse, pearson, spearman]
CLASSIFICATION = [accuracy, average_precision, delta_auprc]


@pytest.mark.parametrize("metric", REGRESSION + CLASSIFICATION)
def test_padding_counts_nowhere(metric):
    predictions, targets = numbers() if metric in REGRESSION else labels()[:2]
    mask = torch.arange(30) < torch.tensor([30, 4, 17, 29, 9]).unsqueeze(1)
    predictions[~mask], targets[~mask] = torch.nan, 0
    found = metric(predictions, targets, mask)
    alone = [metric(predictions[t : t + 1, mask[t]], targets[t : t + 1, mask[t]]) for t in range(5)]
    assert found.isfinite().all()
    torch.testing.assert_close(found, torch.cat(alone), **EXACT)


@pytest.mark.parametrize("metric", [pearson, spearman])
def test_a_correlation_of_outputs_is_the_mean_over_them(metric):
    parts = [numbers() for _ in range(2)]
    both = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
    expected = (metric(*parts[0]) + metric(*parts[1])) / 2
    torch.testing.assert_close(metric(*both), expected, **EXACT)


@pytest.mark.parametrize("metric", [pearson, spearman])
@pytest.mark.parametrize("value", [0.1, 1e20, 0.0])
def test_a_correlation_with_constant_numbers_is_undefined(metric, value):
    predictions, targets = numbers(ties=False)
    predictions[1], targets[2] = value, value
    assert metric(predictions, targets).isnan().tolist() == [False, True, True, False, False]
    # the rounded mean of numbers that are all equal may differ from them
    assert metric(predictions.float(), targets.float()).isnan().tolist() == [False, True, True, False, False]
    assert metric(predictions[:, :1], targets[:, :1]).isnan().all()


def test_correlations_of_tiny_and_of_huge_numbers():
    predictions, targets = numbers(ties=False)
    torch.testing.assert_close(pearson(1e-200 * predictions, 1e200 * targets), pearson(predictions, targets))


def test_what_average_precision_says_of_one_class_or_of_equal_scores():
    logits = labels()[0]
    none, every = torch.zeros(5, 30, dtype=torch.int64), torch.ones(5, 30, dtype=torch.int64)
    assert average_precision(logits, none).isnan().all()
    assert (average_precision(logits, every) == 1).all()
    assert delta_auprc(logits, none).isnan().all()
    assert delta_auprc(logits, every).isnan().all()
    some = torch.arange(30).remainder(5).eq(0).long().expand(5, 30)
    torch.testing.assert_close(average_precision(torch.zeros(5, 30, 2), some), torch.full((5,), 0.2))
    torch.testing.assert_close(delta_auprc(torch.zeros(5, 30, 2), some), torch.zeros(5))


def test_average_precision_is_of_two_classes():
    with pytest.raises(UserError, match="two classes, but the tasks have 3"):
        average_precision(torch.zeros(1, 4, 3), torch.zeros(1, 4, dtype=torch.int64))


def test_predictions_that_are_no_numbers_are_infinitely_bad_or_undefined():
    predictions, targets = numbers(ties=False)
    predictions[3, 7] = torch.nan
    loss = torch.tensor([0.0, 0.0, 0.0, torch.nan, 0.0])
    values = episode_metrics(predictions, targets, loss, metrics=("mse", "rmse", "pearson", "spearman"))
    assert all(values[name][3].isinf() for name in ("loss", "mse", "rmse"))
    assert all(values[name][3].isnan() for name in ("pearson", "spearman"))
    logits, y, _ = labels()
    logits[3, 7] = torch.nan
    assert average_precision(logits, y).isnan().tolist() == [False, False, False, True, False]


def test_episodes_have_the_metrics_that_are_named_at_each_stage():
    predictions, targets = numbers()
    mask = torch.arange(30) < torch.tensor([30, 4, 17, 29, 9]).unsqueeze(1)
    stages = torch.stack([predictions, targets + 1], dim=1)
    values = episode_metrics(stages, targets, torch.zeros(5, 2), mask, ("spearman", "mse"))
    assert list(values) == ["loss", "spearman", "mse"]
    torch.testing.assert_close(values["mse"], torch.stack([mse(predictions, targets, mask), torch.ones(5)], dim=1))
    expected = torch.stack([spearman(predictions, targets, mask), torch.ones(5)], dim=1)
    torch.testing.assert_close(values["spearman"], expected)


def test_names_of_metrics():
    check_metrics([*OF_REGRESSION, *OF_CLASSIFICATION])
    with pytest.raises(SettingError, match=r"data.metrics is r2.*mse, rmse, pearson"):
        check_metrics(["rmse", "r2"])
    predictions, targets = numbers()
    with pytest.raises(SettingError, match=r"data.metrics is accuracy.*mse, rmse, pearson, spearman"):
        episode_metrics(predictions, targets, torch.zeros(5), metrics=["accuracy"])
    assert primary_metric(["loss", "pearson", "rmse"]) == "rmse"
    assert primary_metric(["loss", "delta_auprc"]) == "delta_auprc"


def test_metrics_of_many_queries_need_memory_for_no_pairs():
    predictions, targets = numbers(tasks=1, queries=100_000)
    a, b = (part[0, :, 0].numpy() for part in (predictions, targets))
    assert spearman(predictions, targets).item() == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    y = (targets > 0).long()[..., 0]
    logits = torch.cat([torch.zeros_like(predictions), predictions], dim=-1)
    expected = average_precision_score(np.asarray(y[0]), a)
    assert average_precision(logits, y).item() == pytest.approx(expected, abs=1e-12)
