"""Meta-SGD (Li et al. 2017, https://arxiv.org/abs/1707.09835). There is no authors' code; another implementation is
https://github.com/learnables/learn2learn/blob/db5cee3795490071282bbdfa81179ef732349196/learn2learn/algorithms/meta_sgd.py
"""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import Episode, Labelled
from metalit.algorithms import MAML, MetaSGD
from metalit.networks import MLP


def rates(learner):
    return torch.cat([rate.flatten() for rate in learner.update_rule.rates.parameters()]).detach()


def linear_regression(query_sign=1.0):
    """One task on a linear model without bias, whose losses are quadratics."""
    torch.manual_seed(0)
    x, true = torch.randn(1, 6, 3, dtype=torch.float64), torch.randn(3, 1, dtype=torch.float64)
    query = torch.randn(1, 8, 3, dtype=torch.float64)
    return Episode(Labelled(x, x @ true), Labelled(query, query_sign * query @ true), torch.arange(1))


@pytest.mark.parametrize("steps", [1, 3])
def test_constant_rates_are_maml(steps):
    def of(algorithm):
        torch.manual_seed(1)
        learner = algorithm(MLP(hidden=(10, 10)).double(), inner_lr=0.05, inner_steps=steps)
        return meta_gradient(learner, double("sinusoid"))

    found, expected = of(MetaSGD), of(MAML)
    gradient = {name: found[1][name] for name in expected[1]}
    assert_same_gradient((found[0], gradient), expected, tolerance=1e-12)
    assert len(found[1]) == 2 * len(expected[1])


def test_gradient_of_the_rates_in_closed_form():
    """d L_Q(theta - alpha * g_S) / d alpha = -g_S * grad L_Q(theta'), elementwise."""
    episode = linear_regression()
    network = nn.Linear(3, 1, bias=False).double()
    learner = MetaSGD(network, inner_lr=(0.05, 0.2))
    learner.meta_loss(episode).backward()

    def gradient(theta, examples):
        residual = examples.x[0] @ theta.T - examples.y[0]
        return 2 * residual.T @ examples.x[0] / len(residual)

    theta, (alpha,) = network.weight.detach(), learner.update_rule.rates.parameters()
    inner = gradient(theta, episode.support)
    outer = gradient(theta - alpha.detach() * inner, episode.query)
    torch.testing.assert_close(alpha.grad, -inner * outer, rtol=1e-12, atol=1e-12)


def test_a_rate_becomes_negative_where_the_query_set_wants_the_opposite():
    episode = linear_regression(query_sign=-1.0)
    learner = MetaSGD(nn.Linear(3, 1, bias=False).double(), inner_lr=0.01)
    nn.init.zeros_(learner.network.weight)  # where it stays: the rates alone are learned
    optimizer = torch.optim.SGD(learner.update_rule.parameters(), lr=0.003)
    for _ in range(100):
        optimizer.zero_grad()
        loss = learner.meta_loss(episode)
        loss.backward()
        optimizer.step()
    assert rates(learner).max() < 0
    assert loss < 0.1 * learner.evaluate(episode).loss[0, 0]


def test_initial_rates():
    torch.manual_seed(0)
    drawn = rates(MetaSGD(MLP(), inner_lr=(0.02, 0.3)))
    assert drawn.min() >= 0.02
    assert drawn.max() <= 0.3
    assert drawn.mean() == pytest.approx(0.16, abs=0.02)
    assert (rates(MetaSGD(MLP(), inner_lr=0.02)) == 0.02).all()


def test_only_what_adapts_has_rates():
    assert MetaSGD(MLP(), adapted=["layers.4.*"]).update_rule.rates.names == [
        "layers.4.weight",
        "layers.4.bias",
    ]


@pytest.mark.parametrize(
    ("inner_lr", "message"),
    [
        (0.0, "inner_lr is 0.0"),
        ((0.1, -1.0), "inner_lr is -1.0"),
        ((0.2, 0.1), r"inner_lr is \[0.2, 0.1\]"),
    ],
)
def test_impossible_rates_are_refused(inner_lr, message):
    with pytest.raises(ValueError, match=message):
        MetaSGD(MLP(), inner_lr=inner_lr)
