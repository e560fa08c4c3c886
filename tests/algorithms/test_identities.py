"""Closed forms: on linear regression the support and query losses are quadratics, so every meta-gradient is algebra.

With L_S = 1/2 (theta - a)' A (theta - a), an inner step is theta -> theta - alpha A (theta - a), and

    MAML's meta-gradient is (I - alpha A)^steps grad L_Q(theta_steps), first-order MAML's is grad L_Q(theta_steps)

(Finn, Abbeel and Levine 2017, equation 1 and section 5.2).
"""

import pytest
import torch
from torch import nn

from metalit import FOMAML, MAML, Episode, Labelled, PrototypicalNetwork
from metalit.tasks import scope

DIMENSIONS, TASKS = 5, 3


class Linear(nn.Module):
    """Predicts x' theta."""

    def __init__(self):
        super().__init__()
        self.theta = nn.Parameter(torch.randn(DIMENSIONS, 1, dtype=torch.float64))

    def forward(self, x):
        return x @ self.theta


@pytest.fixture
def episode():
    torch.manual_seed(0)

    def examples(count):
        x = torch.randn(TASKS, count, DIMENSIONS, dtype=torch.float64)
        return Labelled(x, torch.randn(TASKS, count, 1, dtype=torch.float64))

    return Episode(examples(7), examples(9), torch.arange(TASKS))


def quadratic(x, y):
    """A and b with mean (x'theta - y)^2 = 1/2 theta'A theta - b'theta + constant."""
    return 2 * x.T @ x / len(x), 2 * x.T @ y / len(x)


def closed_form(theta, episode, alpha, steps, second_order):
    gradients = []
    for b in range(TASKS):
        support, support_b = quadratic(episode.support.x[b], episode.support.y[b])
        query, query_b = quadratic(episode.query.x[b], episode.query.y[b])
        adapted, jacobian = theta, torch.eye(DIMENSIONS, dtype=torch.float64)
        for _ in range(steps):
            adapted = adapted - alpha * (support @ adapted - support_b)
            jacobian = (torch.eye(DIMENSIONS, dtype=torch.float64) - alpha * support) @ jacobian
        gradient = query @ adapted - query_b
        gradients.append(jacobian.T @ gradient if second_order else gradient)
    return torch.stack(gradients).mean(dim=0)


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("alpha", [0.01, 0.4])
@pytest.mark.parametrize(("algorithm", "second_order"), [(MAML, True), (FOMAML, False)])
def test_meta_gradient_on_quadratics(algorithm, second_order, alpha, steps, episode):
    learner = algorithm(Linear(), inner_lr=alpha, inner_steps=steps)
    learner.meta_loss(episode).backward()
    theta = learner.network.theta
    expected = closed_form(theta.detach(), episode, alpha, steps, second_order)
    torch.testing.assert_close(theta.grad, expected, rtol=1e-10, atol=1e-10)


def test_the_two_orders_differ(episode):
    theta = torch.randn(DIMENSIONS, 1, dtype=torch.float64)
    second, first = (closed_form(theta, episode, 0.4, 1, second_order) for second_order in (True, False))
    assert (second - first).norm() > 0.1 * first.norm()


def test_parameters_that_do_not_adapt_keep_their_value_within_a_task_and_are_still_learned(episode):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(DIMENSIONS, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    learner = MAML(network, inner_lr=0.1, inner_steps=2, adapted=["2.*"])
    parameters, _ = learner.meta()
    support = Labelled(episode.support.x[0], episode.support.y[0])
    first, *_, last = learner.trajectory(parameters, support, 2)
    assert set(first) == set(last) == {"2.weight", "2.bias"}
    assert all(not torch.equal(first[name], last[name]) for name in first)
    learner.meta_loss(episode).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_zero_inner_steps_is_joint_training_on_the_query_sets(episode):
    network = Linear()
    MAML(network, inner_steps=0).meta_loss(episode).backward()
    joint = ((episode.query.x @ network.theta.detach().requires_grad_()) - episode.query.y).square().mean()
    assert MAML(network, inner_steps=0).meta_loss(episode).item() == pytest.approx(joint.item(), rel=1e-12)
    torch.testing.assert_close(network.theta.grad, closed_form(network.theta.detach(), episode, 0.0, 0, True))


def test_frozen_parameters_are_constants(episode):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(DIMENSIONS, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    network[0].requires_grad_(False)
    learner = MAML(network, inner_lr=0.1, adapted=["2.*"])
    learner.meta_loss(episode).backward()
    assert set(scope(learner.meta()[0], "network")) == {"2.weight", "2.bias"}
    assert network[0].weight.grad is None


def test_prototypes_with_the_identity_embedding_are_class_means():
    """Snell et al. 2017, equations 1 and 2, by hand."""
    support = Labelled(torch.tensor([[[0.0, 0.0], [2.0, 0.0], [5.0, 5.0], [5.0, 7.0]]]), torch.tensor([[0, 0, 1, 1]]))
    query = Labelled(torch.tensor([[[1.0, 1.0], [5.0, 5.0]]]), torch.tensor([[0, 1]]))
    outcome = PrototypicalNetwork(nn.Identity())(Episode(support, query, torch.arange(1)))
    distances = torch.tensor([[[1.0, 16.0 + 25.0], [16.0 + 25.0, 1.0]]])
    torch.testing.assert_close(outcome.predictions, -distances)
    expected = -torch.log_softmax(-distances, dim=-1).diagonal(dim1=1, dim2=2).mean(dim=1)
    torch.testing.assert_close(outcome.loss, expected)


def test_more_ways_in_training_than_in_evaluation():
    network = PrototypicalNetwork(nn.Identity())
    for ways in (2, 7):
        x = torch.randn(3, ways, 4)
        y = torch.arange(ways).expand(3, -1)
        episode = Episode(Labelled(x, y), Labelled(x, y), torch.arange(3))
        assert network(episode).predictions.shape == (3, ways, ways)


def test_metric_methods_refuse_regression():
    x = torch.randn(2, 3, 4)
    with pytest.raises(ValueError, match="PrototypicalNetwork classifies, but the labels"):
        PrototypicalNetwork(nn.Identity())(Episode(Labelled(x, x), Labelled(x, x), torch.arange(2)))


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'head\.\*' matches none .* theta"):
        MAML(Linear(), adapted=["head.*"])


@pytest.mark.parametrize("settings", [{"inner_lr": 0.0}, {"inner_lr": -1.0}, {"inner_steps": -1}])
def test_impossible_inner_loops_are_refused(settings):
    with pytest.raises(ValueError, match=r"is .*, expected a"):
        MAML(Linear(), **settings)
