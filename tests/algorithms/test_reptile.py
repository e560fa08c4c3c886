"""Reptile and FOML against the gradients they add up (Nichol et al. 2018, section 5.1).

With SGD at rate alpha and inner gradients g_1 .. g_k, Reptile's meta-gradient is alpha (g_1 + .. + g_k), and that of
FOML, which the authors' code defines, is alpha times that of the tail alone:
https://github.com/openai/supervised-reptile/blob/8f2b71c67a31c1a605ced0cecb76db876b607a7a/supervised_reptile/reptile.py
"""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, learner, meta_gradient
from algorithms.test_identities import TASKS, Linear, episode, quadratic  # noqa: F401  # a fixture
from metalit import Engine, Labelled
from metalit.algorithms import FOMAML, FOML, MAML, Reptile
from metalit.objectives import JointLoss, QueryLoss, ReptileLoss

pytestmark = pytest.mark.algorithms("Reptile", "FOML")
ALPHA = 0.05


def gradient_of(learner, episode):  # noqa: F811
    learner.network.zero_grad()
    learner.meta_loss(episode).backward()
    return learner.network.theta.grad.clone()


@pytest.mark.parametrize("steps", [1, 4])
def test_reptile_adds_up_the_inner_gradients(steps, episode):  # noqa: F811
    """With one step that is the gradient of joint training."""
    network = Linear()
    found = gradient_of(Reptile(network, ALPHA, steps, "sgd"), episode)
    expected = []
    for b in range(TASKS):
        a, support_b = quadratic(episode.support.x[b], episode.support.y[b])
        theta, total = network.theta.detach().clone(), 0
        for _ in range(steps):
            gradient = a @ theta - support_b
            theta, total = theta - ALPHA * gradient, total + gradient
        expected.append(ALPHA * total)
    torch.testing.assert_close(found, torch.stack(expected).mean(dim=0), rtol=1e-10, atol=1e-10)


def test_a_full_outer_step_goes_to_the_mean_of_the_adapted_parameters(episode):  # noqa: F811
    network = Linear()
    algorithm = Reptile(network, 0.01, 3)
    ends = [
        algorithm.trajectory(algorithm.meta()[0], Labelled(episode.support.x[b], episode.support.y[b]), 3)[-1]["theta"]
        for b in range(TASKS)
    ]
    gradient_of(algorithm, episode)
    torch.optim.SGD(network.parameters(), lr=1.0).step()
    torch.testing.assert_close(network.theta.detach(), torch.stack(ends).mean(dim=0).detach())


def test_reptiles_loss_goes_with_any_inner_loop_of_full_batches(episode):  # noqa: F811
    network = Linear()
    found = gradient_of(MAML(network, ALPHA, inner_steps=3, objective=ReptileLoss()), episode)
    torch.testing.assert_close(found, gradient_of(Reptile(network, ALPHA, 3, "sgd"), episode))


def test_with_the_query_loss_reptile_is_first_order_maml(episode):  # noqa: F811
    network = Linear()
    found = gradient_of(Reptile(network, ALPHA, 3, "sgd", objective=QueryLoss()), episode)
    torch.testing.assert_close(found, gradient_of(FOMAML(network, ALPHA, inner_steps=3), episode))


@pytest.mark.parametrize("steps", [0, 1, 4])
def test_with_one_tail_step_foml_is_the_inner_rate_times_first_order_maml(steps, episode):  # noqa: F811
    network = Linear()
    found = gradient_of(FOML(network, ALPHA, steps, inner_optimizer="sgd"), episode)
    reference = FOMAML(network, ALPHA, inner_steps=steps)
    torch.testing.assert_close(found, ALPHA * gradient_of(reference, episode), rtol=1e-10, atol=1e-10)
    learner = FOML(network, ALPHA, steps, inner_optimizer="sgd")
    torch.testing.assert_close(learner(episode).loss, reference(episode).loss)


def test_more_tail_steps_add_up_query_gradients(episode):  # noqa: F811
    network = Linear()
    found = gradient_of(FOML(network, ALPHA, 0, tail_steps=3, inner_optimizer="sgd"), episode)
    swapped = episode._replace(support=episode.query, query=episode.support)
    torch.testing.assert_close(found, gradient_of(Reptile(network, ALPHA, 3, "sgd"), swapped))


@pytest.mark.parametrize("name", ["Reptile", "FOML"])
@pytest.mark.slow
def test_adams_state_goes_through_every_engine(name):
    episode = double("sinusoid")  # noqa: F811
    expected = meta_gradient(learner(name, "sinusoid", inner_optimizer="adam", engine=Engine("loop")), episode)
    for settings in (
        {},
        {"checkpoint_steps": True},
        {"engine": Engine(compile=True, compile_backend="aot_eager")},
    ):
        assert_same_gradient(
            meta_gradient(learner(name, "sinusoid", inner_optimizer="adam", **settings), episode), expected
        )


def test_evaluation_may_take_other_mini_batches_than_training(episode):  # noqa: F811
    support = Labelled(episode.support.x[0], episode.support.y[0])
    network = Linear()
    algorithm = Reptile(network, ALPHA, 1, "sgd", inner_batch_size=3, eval_inner_batch_size=7)
    full = Reptile(network, ALPHA, 1, "sgd")

    def after_one_step(algorithm):
        return algorithm.trajectory(algorithm.meta()[0], support, 1)[-1]["theta"]

    assert not torch.allclose(after_one_step(algorithm.train()), after_one_step(full))
    torch.testing.assert_close(after_one_step(algorithm.eval()), after_one_step(full))


def test_tasks_of_a_batch_draw_mini_batches_of_their_own(episode):  # noqa: F811
    support, query = (Labelled(*(leaf[:1].expand(8, -1, -1) for leaf in part)) for part in episode[:2])
    same = type(episode)(support, query, torch.arange(8))
    algorithm = Reptile(Linear(), ALPHA, 1, "sgd", inner_batch_size=2)
    assert len(algorithm(same).loss.unique()) > 4
    assert len(algorithm.eval()(same).loss.unique()) == 1  # in evaluation nothing is random


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reptile(Linear(), inner_steps=0), "inner_steps is 0"),
        (lambda: Reptile(Linear(), inner_batch_size=0), "inner_batch_size is 0"),
        (lambda: FOML(Linear(), tail_steps=0), "tail_steps is 0"),
        (lambda: FOML(Linear(), objective=JointLoss()), "JointLoss uses adapted parameters"),
        (lambda: Reptile(nn.Linear(2, 1), adapted=["bias"]), "never be learned: weight; let all"),
        (lambda: FOML(nn.Linear(2, 1), adapted=["bias"]), "never be learned: weight; let all"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
