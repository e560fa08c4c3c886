"""FEAT (authors' code: Sha-Lab/FEAT at fa66901, model/models/feat.py).

https://github.com/Sha-Lab/FEAT/blob/fa66901861f0a58e6fd19905a2c8aefb7cb09981/model/models/feat.py
"""

import pytest
import torch
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import FEAT


def test_contrast_class_by_class():
    """The examples of each class are adapted by themselves; the distances are from the examples as they were."""
    torch.manual_seed(0)
    learner = FEAT(nn.Identity(), contrast_temperature=3.0, contrast_weight=0.5, features=4).eval()
    x, y = torch.randn(2, 1, 6, 4), torch.tensor([[0, 0, 1, 1, 2, 2]])
    episode = Episode(Labelled(x[0], y), Labelled(x[1], y), torch.arange(1))
    outcome = learner(episode)
    examples, labels = torch.cat([x[0, 0], x[1, 0]]), torch.cat([y[0], y[0]])
    centres = torch.stack([learner.head.adaptation(examples[labels == k]).mean(dim=0) for k in range(3)])
    logits = -torch.cdist(examples, centres).square() / 3
    expected = 0.5 * nn.functional.cross_entropy(logits, labels)
    torch.testing.assert_close(outcome.penalties["contrast"][0], expected)
    torch.testing.assert_close(learner.meta_loss(episode), outcome.loss[0] + expected)


def test_temperature_divides_squared_distances():
    torch.manual_seed(0)
    x, y = torch.randn(2, 1, 3, 4), torch.arange(3).unsqueeze(0)
    episode = Episode(Labelled(x[0], y), Labelled(x[1], y), torch.arange(1))
    learner = FEAT(nn.Identity(), temperature=8.0, features=4).eval()
    means = learner.head.adaptation(x[0, 0])
    torch.testing.assert_close(learner(episode).predictions[0], -torch.cdist(x[1, 0], means).square() / 8)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"contrast_temperature": -1.0}, {"contrast_weight": -1.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        FEAT(nn.Identity(), features=4, **settings)
