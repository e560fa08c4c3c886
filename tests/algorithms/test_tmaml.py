"""TMAML against the gradients of joint training."""

import pytest
import torch

from algorithms.test_identities import TASKS, Linear, episode  # noqa: F401  # a fixture
from metalit import Labelled
from metalit.algorithms import MAML, TMAML
from metalit.objectives import JointLoss, QueryLoss


def gradient_of(learner, episode):  # noqa: F811
    learner.network.zero_grad()
    learner.meta_loss(episode).backward()
    return learner.network.theta.grad.clone()


@pytest.mark.parametrize("queries", [7, 9])
def test_the_meta_gradient_is_the_mean_gradient_over_all_examples_of_all_tasks(queries, episode):  # noqa: F811
    query = Labelled(episode.query.x[:, :queries], episode.query.y[:, :queries])
    network = Linear()
    objective = None if queries == 7 else JointLoss(7 / 16, 9 / 16)  # as the numbers of examples
    found = gradient_of(TMAML(network, objective=objective), episode._replace(query=query))
    theta = network.theta.detach().requires_grad_()
    x, y = (torch.cat(both, dim=1) for both in ((episode.support.x, query.x), (episode.support.y, query.y)))
    torch.stack([(x[b] @ theta - y[b]).square().mean() for b in range(TASKS)]).mean().backward()
    torch.testing.assert_close(found, theta.grad)


def test_with_the_query_loss_it_is_maml_without_inner_steps(episode):  # noqa: F811
    network = Linear()
    found = gradient_of(TMAML(network, objective=QueryLoss()), episode)
    torch.testing.assert_close(found, gradient_of(MAML(network, inner_steps=0), episode))


def test_evaluation_is_fine_tuning_as_mamls(episode):  # noqa: F811
    network = Linear()
    found = TMAML(network, inner_lr=0.05, eval_inner_steps=3).evaluate(episode)
    expected = MAML(network, inner_lr=0.05, inner_steps=3).evaluate(episode)
    torch.testing.assert_close(found.loss, expected.loss)
    assert found.loss.shape == (TASKS, 4)
