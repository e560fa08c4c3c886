"""Measures of inequality against their definitions and the relations between them."""

import pytest
import torch

from metalit.functional.inequality import (
    atkinson,
    generalised_entropy,
    gini,
    theil,
    variance_of_logs,
)

MEASURES = {
    "theil": theil,
    "generalised_entropy": lambda losses: generalised_entropy(losses, 2.0),
    "generalised_entropy_0": lambda losses: generalised_entropy(losses, 0.0),
    "generalised_entropy_-1": lambda losses: generalised_entropy(losses, -1.0),
    "atkinson": lambda losses: atkinson(losses, 0.5),
    "atkinson_1": lambda losses: atkinson(losses, 1.0),
    "gini": gini,
    "variance_of_logs": variance_of_logs,
}
over_measures = pytest.mark.parametrize("measure", MEASURES.values(), ids=MEASURES)
LOSSES = torch.tensor([0.3, 1.0, 1.7, 4.0], dtype=torch.float64)


@over_measures
def test_zero_where_all_are_equal_and_only_there(measure):
    assert measure(torch.full((5,), 2.3, dtype=torch.float64)).item() == pytest.approx(0, abs=1e-12)
    assert measure(LOSSES) > 0.01


@over_measures
def test_the_scale_does_not_matter(measure):
    assert measure(7.5 * LOSSES).item() == pytest.approx(measure(LOSSES).item(), rel=1e-12)


@over_measures
def test_a_loss_of_zero_leaves_value_and_gradient_finite(measure):
    losses = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    value = measure(losses)
    value.backward()
    assert value.isfinite()
    assert losses.grad.isfinite().all()


def test_generalised_entropy_has_the_others_as_limits():
    near = torch.tensor(1e-5, dtype=torch.float64).item()
    torch.testing.assert_close(generalised_entropy(LOSSES, 1 + near), theil(LOSSES), rtol=1e-4, atol=0)
    torch.testing.assert_close(generalised_entropy(LOSSES, near), generalised_entropy(LOSSES, 0.0), rtol=1e-4, atol=0)
    variation = LOSSES.var(correction=0) / LOSSES.mean() ** 2
    torch.testing.assert_close(generalised_entropy(LOSSES, 2.0), variation / 2)


def test_by_hand():
    share = LOSSES / 1.75
    torch.testing.assert_close(theil(LOSSES), (share * share.log()).sum() / 4)
    torch.testing.assert_close(atkinson(LOSSES, 1.0), 1 - LOSSES.prod() ** 0.25 / 1.75)
    torch.testing.assert_close(atkinson(LOSSES, 0.5), 1 - LOSSES.sqrt().mean() ** 2 / 1.75)
    torch.testing.assert_close(atkinson(LOSSES, 1 + 1e-6), atkinson(LOSSES, 1.0), rtol=1e-5, atol=0)
    pairs = sum(abs(a - b) for a in LOSSES for b in LOSSES)
    torch.testing.assert_close(gini(LOSSES), pairs / (2 * 16 * 1.75))
    torch.testing.assert_close(variance_of_logs(LOSSES), LOSSES.log().var(correction=0))


def test_gini_is_largest_where_one_task_has_all_the_loss():
    losses = torch.tensor([0.0, 0.0, 0.0, 3.0], dtype=torch.float64)
    assert gini(losses).item() == pytest.approx(1 - 1 / 4)
