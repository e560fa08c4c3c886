"""Losses and means over the examples of padded tasks."""

import pytest
import torch
from torch.func import grad, jacrev, vmap

from metalit.episode import labelled
from metalit.functional import class_means, task_loss
from metalit.functional.distances import class_sums, membership
from metalit.functional.logistic import logistic_regression
from metalit.functional.logistic_of_many import logistic_regression_of_many
from metalit.functional.masks import masked_mean, real_examples, together, without_padding
from metalit.functional.predictive import expected_calibration_error, gaussian_nll

MASK = torch.arange(6) < 4
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


TARGETS = {"classes": torch.tensor([0, 2, 1, 2, 0, 0]), "numbers": normal(6, 3)}
over_targets = pytest.mark.parametrize("targets", TARGETS.values(), ids=TARGETS)


@over_targets
@pytest.mark.parametrize("filler", [0.0, 1e30, torch.nan, torch.inf])
def test_task_loss_is_the_mean_over_real_examples_whatever_the_padding_is(targets, filler):
    predictions = normal(6, 3)
    expected = task_loss(predictions[MASK], targets[MASK])
    derivative = grad(task_loss)(predictions[MASK], targets[MASK])
    predictions[~MASK] = filler
    torch.testing.assert_close(task_loss(predictions, targets, MASK), expected, rtol=0, atol=1e-14)
    found = grad(task_loss)(predictions, targets, MASK)
    torch.testing.assert_close(found[MASK], derivative, rtol=0, atol=1e-14)
    assert (found[~MASK] == 0).all()


@over_targets
def test_second_derivatives_under_vmap_are_those_without_padding(targets):
    weights, x = normal(2, 3, 3), normal(6, 2, 3).transpose(0, 1)
    masks = torch.stack([MASK, torch.arange(6) < 6])

    def loss(weight, x, y, mask):
        return task_loss((x @ weight).tanh(), y, mask)

    y = targets.expand(2, *targets.shape)
    found = vmap(jacrev(grad(loss)))(weights, x, y, masks)
    for task, mask in enumerate(masks):
        expected = jacrev(grad(loss))(weights[task], x[task][mask], targets[mask], None)
        torch.testing.assert_close(found[task], expected, rtol=0, atol=1e-12)


def test_means_and_sums_of_classes_leave_padding_out():
    x, y = normal(6, 2), TARGETS["classes"]
    for function in (class_sums, class_means):
        torch.testing.assert_close(function(x, y, 3, MASK), function(x[MASK], y[MASK], 3), rtol=0, atol=1e-14)
    assert membership(y, 3, x, MASK).sum(dim=0).tolist() == [1, 1, 1, 1, 0, 0]


def test_masked_means():
    values = normal(6, 2)
    assert masked_mean(values, None).equal(values.mean(dim=0))
    torch.testing.assert_close(masked_mean(values, MASK), values[:4].mean(dim=0))
    assert without_padding(values, MASK)[4:].eq(0).all()
    assert without_padding(values, None) is values


def test_likelihood_and_calibration_leave_padding_out():
    values, targets = normal(5, 6, 3), TARGETS["numbers"]
    log_std = normal(5, 6, 3)
    expected = gaussian_nll(values[:, MASK], log_std[:, MASK], targets[MASK])
    torch.testing.assert_close(gaussian_nll(values, log_std, targets, MASK), expected)
    logits, labels = values[0], TARGETS["classes"]
    expected = expected_calibration_error(logits[MASK], labels[MASK])
    torch.testing.assert_close(expected_calibration_error(logits, labels, mask=MASK), expected)


@pytest.mark.parametrize("fit", [logistic_regression, logistic_regression_of_many])
def test_logistic_regression_leaves_examples_of_no_class_out(fit):
    x, y = normal(6, 2), TARGETS["classes"]
    found = fit(x, membership(y, 3, x, MASK).mT, 0.5)
    expected = fit(x[MASK], membership(y[MASK], 3, x).mT, 0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


def test_sets_are_joined_with_their_masks():
    support, query = labelled(torch.arange(6), torch.arange(6), MASK), labelled(torch.arange(2), torch.arange(2))
    assert together(support, query).mask.tolist() == [*MASK.tolist(), True, True]
    assert together(query, support).x.tolist() == [0, 1, *range(6)]
    assert together(query, query).mask is None
    assert real_examples(support).x.tolist() == [0, 1, 2, 3]
    assert real_examples(query) is query
