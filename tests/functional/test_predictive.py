"""Predictive distributions against torch.distributions and torchmetrics."""

import math

import pytest
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.func import vmap
from torchmetrics.functional.classification import multiclass_calibration_error

from metalit.functional.predictive import (
    expected_calibration_error,
    fitted_gaussian_nll,
    gaussian_kl,
    gaussian_nll,
    gaussian_spread,
    mixture,
)

SAMPLES, EXAMPLES, OUTPUTS = 4, 7, 2


@pytest.fixture
def values():
    torch.manual_seed(0)
    return torch.randn(SAMPLES, EXAMPLES, OUTPUTS, dtype=torch.float64)


def test_mixture_of_logits_is_the_log_of_mean_probabilities(values):
    expected = values.softmax(-1).mean(0).log()
    torch.testing.assert_close(mixture(values, classification=True), expected)
    torch.testing.assert_close(mixture(values, classification=False), values.mean(0))


@pytest.mark.parametrize("shape", [(), (SAMPLES, EXAMPLES, OUTPUTS)])
def test_gaussian_mixture_is_that_of_torch(values, shape):
    log_std = torch.randn(shape, dtype=torch.float64)
    targets = torch.randn(EXAMPLES, OUTPUTS, dtype=torch.float64)
    parts = Normal(values.movedim(0, 1), log_std.exp().expand(values.shape).movedim(0, 1))
    weights = Categorical(torch.ones(EXAMPLES, SAMPLES, dtype=torch.float64))
    whole = MixtureSameFamily(weights, Independent(parts, 1))
    torch.testing.assert_close(gaussian_nll(values, log_std, targets), -whole.log_prob(targets).mean())
    torch.testing.assert_close(gaussian_spread(values, log_std), whole.stddev)


def test_kl_is_that_of_torch():
    torch.manual_seed(0)
    mean, log_std, prior_mean, prior_log_std = torch.randn(4, 9, dtype=torch.float64)
    expected = kl_divergence(Normal(mean, log_std.exp()), Normal(prior_mean, prior_log_std.exp())).sum()
    torch.testing.assert_close(gaussian_kl(mean, log_std, prior_mean, prior_log_std), expected)
    assert gaussian_kl(mean, log_std, mean, log_std).item() == pytest.approx(0)


def test_the_fitted_variance_is_the_best_constant():
    torch.manual_seed(0)
    errors = torch.rand(50, dtype=torch.float64)
    expected = 0.5 * math.log(2 * math.pi * errors.mean()) + 0.5
    assert fitted_gaussian_nll(errors, errors).mean().item() == pytest.approx(expected)
    for factor in (0.9, 1.1):
        assert fitted_gaussian_nll(errors, factor * errors).mean().item() > expected


def test_calibration_error_is_that_of_torchmetrics():
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(5, 40, 3), torch.randint(3, (5, 40))
    logits[0, 0] = torch.tensor([1000.0, 0, 0])  # a confidence of 1
    found = vmap(expected_calibration_error)(logits, labels)
    for task in range(5):
        expected = multiclass_calibration_error(logits[task].softmax(-1), labels[task], 3, n_bins=15)
        assert found[task].item() == pytest.approx(expected.item(), abs=1e-6)
