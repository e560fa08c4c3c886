"""Classifiers that are fitted by gradient descent."""

import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.functional import class_means
from metalit.heads import CosineClassifier, LinearClassifier
from metalit.networks.cosine_layer import CosineLayer

F64 = torch.float64


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2)), torch.randn(5, 4, dtype=F64)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_steps_are_those_of_sgd(kind, task):
    support, query = task
    settings = {"steps": 7, "learning_rate": 0.3, "weight_decay": 0.05}
    if kind == "linear":
        head, reference = LinearClassifier(**settings), nn.Linear(4, 3).double()
        for parameter in reference.parameters():
            nn.init.zeros_(parameter)
    else:
        head, reference = CosineClassifier(3.0, **settings), CosineLayer(4, 3, scale=3.0).double()
        reference.weight.data = class_means(support.x, support.y, 3)
    optimizer = torch.optim.SGD(reference.parameters(), lr=0.3, weight_decay=0.05)
    for _ in range(7):
        optimizer.zero_grad()
        nn.functional.cross_entropy(reference(support.x), support.y).backward()
        optimizer.step()
    torch.testing.assert_close(head(support, query, 3), reference(query).detach())


def test_differentiable_in_the_embeddings(task):
    support, query = task
    head = LinearClassifier(steps=3, learning_rate=0.5)

    def logits(x):
        return head(Labelled(x, support.y), query, 3)

    torch.autograd.gradcheck(logits, support.x.requires_grad_())


def test_nothing_to_fit_is_the_start(task):
    support, query = task
    assert not LinearClassifier(steps=0)(support, query, 3).any()
    means = class_means(support.x, support.y, 3)
    expected = 2 * nn.functional.cosine_similarity(query[:, None], means[None], dim=-1)
    torch.testing.assert_close(CosineClassifier(steps=0)(support, query, 3), expected)


@pytest.mark.parametrize("settings", [{"steps": -1}, {"learning_rate": 0.0}, {"weight_decay": -1.0}, {"scale": 0.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        CosineClassifier(**settings)
