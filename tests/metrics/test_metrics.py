"""Per-episode metrics and their summary."""

import math

import numpy as np
import pytest
import torch

from metalit.metrics import episode_metrics, primary_metric, summarise, summarise_runs


def test_accuracy_of_each_episode_at_each_stage():
    targets = torch.tensor([[0, 1, 2], [2, 2, 0]])
    chosen = torch.tensor([[[0, 0, 0], [0, 1, 2]], [[2, 2, 1], [1, 1, 1]]])
    logits = torch.nn.functional.one_hot(chosen, 3) * 2.0 - 5
    values = episode_metrics(logits, targets, loss=torch.arange(4.0).reshape(2, 2))
    torch.testing.assert_close(values["accuracy"], torch.tensor([[1 / 3, 1], [2 / 3, 0]]))
    torch.testing.assert_close(values["loss"], torch.arange(4.0).reshape(2, 2))
    assert set(values) == {"loss", "accuracy"}


def test_squared_error_is_averaged_over_queries_and_outputs():
    targets = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    predictions = torch.stack([targets, targets + torch.tensor([1.0, 3.0])], dim=1)
    values = episode_metrics(predictions, targets, loss=torch.zeros(1, 2))
    torch.testing.assert_close(values["mse"], torch.tensor([[0.0, (1 + 9) / 2]]))
    assert set(values) == {"loss", "mse"}


def test_values_without_stages_have_the_shape_of_the_loss():
    targets = torch.tensor([[0, 1], [1, 1]])
    logits = torch.tensor([[[9.0, 0.0], [9.0, 0.0]], [[0.0, 9.0], [0.0, 9.0]]])
    values = episode_metrics(logits, targets, loss=torch.zeros(2))
    torch.testing.assert_close(values["accuracy"], torch.tensor([0.5, 1.0]))


@pytest.mark.parametrize(("dtype", "expected"), [(torch.bfloat16, torch.float32), (torch.float64, torch.float64)])
def test_precision_is_at_least_single(dtype, expected):
    predictions = torch.rand(1, 1, 4, 1, dtype=dtype)
    values = episode_metrics(predictions, torch.zeros(1, 4, 1, dtype=dtype), torch.zeros(1, 1, dtype=dtype))
    assert {value.dtype for value in values.values()} == {expected}


def test_summary_is_that_of_the_definition_in_float64():
    values = torch.rand(601, generator=torch.Generator().manual_seed(0)) + 1e4  # float32 sums would lose the spread
    exact = values.numpy().astype(np.float64)
    summary = summarise(values)
    std = math.sqrt(((exact - exact.mean()) ** 2).sum() / 600)
    assert summary.mean == pytest.approx(exact.mean(), rel=1e-14)
    assert summary.std == pytest.approx(std, rel=1e-12)
    assert summary.ci95 == pytest.approx(1.96 * std / math.sqrt(601), rel=1e-12)


def test_one_episode_has_no_interval():
    summary = summarise(torch.tensor([0.25]))
    assert summary.mean == 0.25
    assert math.isnan(summary.ci95)
    assert math.isnan(summary.std)


def test_no_episode_is_refused():
    with pytest.raises(ValueError, match="no episode"):
        summarise(torch.empty(0))


def test_interval_covers_the_mean_in_95_percent_of_samples():
    samples = torch.randn(2000, 100, generator=torch.Generator().manual_seed(0))
    covered = sum(abs(summary.mean) <= summary.ci95 for summary in map(summarise, samples))
    assert 0.93 < covered / 2000 < 0.97


def test_primary_metric():
    assert primary_metric(["loss", "accuracy"]) == "accuracy"
    assert primary_metric(["loss", "mse"]) == "mse"
    assert primary_metric(["loss"]) == "loss"


def test_interval_of_few_runs_is_students():
    mean, ci95, std = summarise_runs([1.0, 2.0, 4.0])
    assert (mean, std) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    assert ci95 == pytest.approx(4.30265 * std / math.sqrt(3), rel=1e-5)
    assert summarise_runs([3.0])[0] == 3.0
    assert all(map(math.isnan, (*summarise_runs([3.0])[1:], *summarise_runs([]))))


def test_interval_over_runs_holds_what_it_promises():
    values = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).tolist()
    held = sum(abs(summary.mean) <= summary.ci95 for summary in map(summarise_runs, values))
    assert held / len(values) == pytest.approx(0.95, abs=0.011)  # three standard errors; the normal one holds 0.81
