"""Proto-MAML (authors' code: google-research/meta-dataset at bc03caf, class MAMLLearner).

https://github.com/google-research/meta-dataset/blob/bc03cafe4f44f2d14ba1e893c1e11360fddd5beb/meta_dataset/learners/optimization_learners.py
"""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import Episode, Labelled, PrototypicalNetwork
from metalit.algorithms import ProtoMAML
from metalit.networks import MLP, Conv4

TASKS, INPUTS, FEATURES = 2, 4, 3
UNEVEN = [0, 0, 1, 2, 2, 2]  # labels of a support set with different numbers of examples


def embedding():
    torch.manual_seed(1)
    return nn.Linear(INPUTS, FEATURES).double()


def mlp():
    torch.manual_seed(1)
    return MLP(inputs=INPUTS, hidden=(6,), outputs=FEATURES).double()


def conv4():
    torch.manual_seed(1)
    return Conv4(channels=4, batch_norm="none").double()


def vectors(support, ways=3):
    """Tasks of random vectors."""
    torch.manual_seed(2)
    sets = []
    for labels in (support, list(range(ways)) * 4):
        x = torch.randn(TASKS, len(labels), INPUTS, dtype=torch.float64)
        sets.append(Labelled(x, torch.tensor(labels).expand(TASKS, -1)))
    return Episode(*sets, torch.arange(TASKS))


@pytest.mark.parametrize("make", [mlp, conv4])
def test_without_inner_steps_it_is_a_prototypical_network(make):
    tasks = vectors(UNEVEN) if make is mlp else double("glyphs")
    ours, theirs = ProtoMAML(make(), inner_steps=0), PrototypicalNetwork(make())
    logits, distances = ours(tasks).predictions, theirs(tasks).predictions
    features = ours.network(tasks.query.x.flatten(0, 1)).unflatten(0, tasks.query.y.shape)
    torch.testing.assert_close(logits - features.square().sum(-1, keepdim=True), distances)
    assert_same_gradient(meta_gradient(ours, tasks), meta_gradient(theirs, tasks), tolerance=1e-12)


def by_hand(network, tasks, rate, steps, first_order=False, through_prototypes=True):
    """Return meta-loss and meta-gradient for a linear embedding, task by task, with the inner gradients written out."""
    losses = []
    for b in range(TASKS):
        x, y = tasks.support.x[b], tasks.support.y[b]
        matrix, shift = network.weight, network.bias
        prototypes = torch.stack([(x[y == k] @ matrix.T + shift).mean(0) for k in range(3)])
        prototypes = prototypes if through_prototypes else prototypes.detach()
        weight, bias = 2 * prototypes, -(prototypes.norm(dim=1) ** 2)
        for _ in range(steps):
            features = x @ matrix.T + shift
            # the derivative of the mean cross-entropy with respect to the logits
            error = (torch.softmax(features @ weight.T + bias, -1) - nn.functional.one_hot(y, 3)) / len(y)
            back = error @ weight  # and to the features
            gradients = [back.T @ x, back.sum(0), error.T @ features, error.sum(0)]
            if first_order:
                gradients = [gradient.detach() for gradient in gradients]
            matrix, shift, weight, bias = (
                value - rate * gradient
                for value, gradient in zip((matrix, shift, weight, bias), gradients, strict=True)
            )
        logits = (tasks.query.x[b] @ matrix.T + shift) @ weight.T + bias
        losses.append(nn.functional.cross_entropy(logits, tasks.query.y[b]))
    loss = torch.stack(losses).mean()
    names, parameters = zip(*network.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    return loss.detach(), dict(zip([f"network.{name}" for name in names], gradients, strict=True))


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_meta_gradient_by_hand(steps, first_order):
    tasks = vectors(UNEVEN)
    learner = ProtoMAML(embedding(), inner_lr=0.1, inner_steps=steps, first_order=first_order)
    expected = by_hand(embedding(), tasks, 0.1, steps, first_order)
    assert_same_gradient(meta_gradient(learner, tasks), expected, tolerance=1e-12)


def test_the_gradient_through_the_prototypes_matters():
    tasks = vectors(UNEVEN)
    loss, gradient = by_hand(embedding(), tasks, 0.1, 1)
    same, without = by_hand(embedding(), tasks, 0.1, 1, through_prototypes=False)
    assert loss == same
    difference = gradient["network.weight"] - without["network.weight"]
    assert difference.norm() > 0.1 * gradient["network.weight"].norm()


def test_one_model_learns_any_number_of_ways():
    learner = ProtoMAML(mlp(), inner_lr=0.1, inner_steps=2)
    for ways in (2, 7):
        tasks = vectors(list(range(ways)), ways)
        learner.meta_loss(tasks).backward()
        assert learner(tasks).predictions.shape == (TASKS, 4 * ways, ways)
        predict = learner.adapt(Labelled(tasks.support.x[0], 10 * tasks.support.y[0]))
        assert predict.classes.tolist() == list(range(0, 10 * ways, 10))
        expected = learner.evaluate(tasks).predictions[0, -1]
        torch.testing.assert_close(predict(tasks.query.x[0]), expected)


def test_the_output_layer_adapts_with_any_part_of_the_embedding():
    learner, tasks = ProtoMAML(mlp(), inner_lr=0.1, adapted=["layers.2.*"]), vectors(UNEVEN)
    adapted = learner.learn(learner.tensors(), Labelled(tasks.support.x[0], tasks.support.y[0]), 3)
    layer = {"layer.weight": (3, FEATURES), "layer.bias": (3,)}
    part = {"network.layers.2.weight": (FEATURES, 6), "network.layers.2.bias": (FEATURES,)}
    assert {name: tuple(value.shape) for name, value in adapted.items()} == part | layer
    assert set(learner.state_dict()) == {"task_seed", *(f"network.{name}" for name in learner.network.state_dict())}


def test_regression_is_refused():
    tasks = vectors(UNEVEN)
    numbers = Labelled(tasks.support.x, tasks.support.x[..., :1])
    with pytest.raises(ValueError, match="the labels are floats"):
        ProtoMAML(mlp())(Episode(numbers, numbers, tasks.index))
    with pytest.raises(ValueError, match="the labels are floats"):
        ProtoMAML(mlp()).adapt(Labelled(numbers.x[0], numbers.y[0]))
