"""Distances, losses, parameters and update rules against their definitions."""

import math

import pytest
import torch
import torch.nn.functional as F

from metalit.functional import class_means, squared_euclidean, task_loss
from metalit.tasks import matching, scope
from metalit.update_rules import SGD


def test_squared_distances_are_summed_over_dimensions():
    a, b = torch.tensor([[0.0, 0.0], [1.0, 2.0]]), torch.tensor([[3.0, 4.0]])
    assert squared_euclidean(a, b).tolist() == [[25.0], [8.0]]
    torch.manual_seed(0)
    a, b = torch.randn(4, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(squared_euclidean(a, b), torch.cdist(a, b) ** 2)


def test_class_means_take_labels_in_any_order_and_number():
    x = torch.tensor([[1.0], [10.0], [3.0], [20.0], [5.0]])
    assert class_means(x, torch.tensor([0, 1, 0, 1, 0]), ways=2).tolist() == [[3.0], [15.0]]


def test_task_loss_follows_the_kind_of_target():
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    torch.testing.assert_close(task_loss(logits, labels), F.cross_entropy(logits, labels))
    assert task_loss(torch.zeros(6, 3), labels).item() == pytest.approx(math.log(3))
    assert task_loss(torch.tensor([[1.0], [3.0]]), torch.tensor([[0.0], [0.0]])).item() == 5.0


@pytest.mark.parametrize("shape", [(6,), (1, 6), (6, 2), (5, 1)])
def test_targets_of_another_shape_than_the_values_are_refused(shape):
    """torch would compare each with each: six values with six targets are 36 differences."""
    message = rf"targets have shape \[{', '.join(map(str, shape))}\], but the predictions \[6, 1\]"
    with pytest.raises(ValueError, match=message):
        task_loss(torch.zeros(6, 1), torch.zeros(shape))


def test_scope_takes_whole_prefixes_only():
    value = torch.zeros(1)
    assert list(scope({"network.a.b": value, "network_two.c": value, "d": value}, "network")) == ["a.b"]


def test_matching_keeps_the_order_of_names():
    names = ["body.0.weight", "body.0.bias", "head.weight", "head.bias"]
    assert matching(names, ["head.*", "*.0.weight"]) == ["body.0.weight", "head.weight", "head.bias"]
    with pytest.raises(ValueError, match=r"'haed\.\*' matches none .* body\.0\.weight, "):
        matching(names, ["haed.*"])


def test_sgd_descends():
    rule = SGD(0.1)
    parameters, gradient = {"w": torch.tensor([1.0])}, {"w": torch.tensor([2.0])}
    updated, state = rule(gradient, rule.init(parameters), parameters, torch.tensor(0.0))
    assert updated["w"].item() == pytest.approx(0.8)
    assert state == ()
    with pytest.raises(ValueError, match="inner_lr is 0"):
        SGD(0)
