"""N + 1 classes from N logits, against the softmax of N + 1."""

import pytest
import torch
import torch.nn.functional as F

from metalit.functional.real_or_fake import fake_loss, label_loss, real_loss


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return 3 * torch.randn(7, 5, dtype=torch.float64)


def with_fake(logits):
    return F.pad(logits, (0, 1))


def test_losses_are_those_of_a_softmax_over_one_class_more(logits):
    labels = torch.tensor([0, 1, 2, 3, 4, 0, 1])
    log_p = with_fake(logits).log_softmax(dim=1)
    torch.testing.assert_close(label_loss(logits, labels), F.cross_entropy(with_fake(logits), labels))
    torch.testing.assert_close(fake_loss(logits), -log_p[:, -1].mean())
    torch.testing.assert_close(real_loss(logits), -log_p[:, :-1].logsumexp(dim=1).mean())


def test_label_loss_is_the_usual_one_and_that_of_being_real(logits):
    labels = torch.tensor([4, 3, 2, 1, 0, 0, 0])
    expected = F.cross_entropy(logits, labels) + real_loss(logits)
    torch.testing.assert_close(label_loss(logits, labels), expected)
    weighted = F.cross_entropy(logits, labels) + 0.2 * real_loss(logits)
    torch.testing.assert_close(label_loss(logits, labels, 0.2), weighted)


@pytest.mark.parametrize(("shift", "fake", "real"), [(1000.0, 1000.0, 0.0), (-1000.0, 0.0, 1000.0)])
def test_nothing_overflows(shift, fake, real):
    logits = torch.full((2, 1), shift)
    assert fake_loss(logits).item() == pytest.approx(fake)
    assert real_loss(logits).item() == pytest.approx(real)


def test_losses_of_bfloat16_logits_are_computed_in_float32(logits):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fake_loss(logits.bfloat16()).dtype == real_loss(logits.bfloat16()).dtype == torch.float32
