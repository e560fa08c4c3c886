"""The support vector machine as a head."""

import pytest
import torch
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import MetaOptNet
from metalit.functional import crammer_singer
from metalit.heads import SupportVectorMachine

F64 = torch.float64


def test_logits_by_hand():
    torch.manual_seed(0)
    support = Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2))
    query = torch.randn(5, 4, dtype=F64)
    kernel = support.x @ support.x.T + torch.eye(6, dtype=F64)
    found = crammer_singer(kernel, nn.functional.one_hot(support.y).double(), 0.1)
    by_hand = 3 * query @ support.x.T @ found
    torch.testing.assert_close(SupportVectorMachine(scale=3.0).double()(support, query, 3), by_hand)


def test_it_separates_what_can_be_separated():
    x = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, -2.0]]).repeat(4, 1) + 0.1 * torch.randn(12, 2)
    support = Labelled(x, torch.arange(3).repeat(4))
    assert torch.equal(SupportVectorMachine(cost=10.0)(support, x, 3).argmax(dim=1), support.y)


def test_labels_are_smoothed_in_training_only():
    x, y = torch.randn(2, 3, 4), torch.arange(3).expand(2, -1)
    episode = Episode(Labelled(x, y), Labelled(x, y), torch.arange(2))
    learner = MetaOptNet(nn.Identity(), label_smoothing=0.3)
    outcome = learner(episode)
    log_p = outcome.predictions.log_softmax(dim=-1)
    expected = -(0.7 * log_p.diagonal(dim1=1, dim2=2) + 0.1 * log_p.sum(dim=-1)).mean(dim=1)
    torch.testing.assert_close(outcome.loss, expected)
    torch.testing.assert_close(learner.eval()(episode).loss, -log_p.diagonal(dim1=1, dim2=2).mean(dim=1))


@pytest.mark.parametrize("settings", [{"cost": 0.0}, {"scale": -1.0}, {"iterations": 0}, {"label_smoothing": 1.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        MetaOptNet(nn.Identity(), **settings)
