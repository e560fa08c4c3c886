"""ANIL (Raghu et al. 2020, https://arxiv.org/abs/1909.09157) and BOIL (Oh et al. 2021). ANIL has no authors' code;
BOIL's is https://github.com/jhoon-oh/BOIL/blob/2b8b756eeadcf1d412b0dc85c8973e1c620309cd/main.py#L29-L37
"""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import Labelled
from metalit.algorithms import ANIL, BOIL, MAML
from metalit.networks import MLP, Classifier, Conv4

pytestmark = pytest.mark.algorithms("ANIL", "BOIL")
HEAD = ["layers.4.*"]


def mlp():
    torch.manual_seed(1)
    return MLP(hidden=(10, 10)).double()


@pytest.mark.parametrize(
    ("network", "settings"), [(mlp(), {"head": HEAD}), (Classifier(Conv4(channels=2), ways=3), {})]
)
def test_anil_and_boil_partition_the_parameters(network, settings):
    head, body = (set(cls(network, **settings).adapted_names) for cls in (ANIL, BOIL))
    assert not head & body
    assert head | body == set(dict(network.named_parameters()))
    assert len(head) == 2


@pytest.mark.parametrize(("algorithm", "adapts"), [(ANIL, "head"), (BOIL, "body")])
def test_what_adapts_and_what_is_learned(algorithm, adapts):
    learner, episode = algorithm(mlp(), inner_lr=0.1, inner_steps=2, head=HEAD), double("sinusoid")
    support = Labelled(episode.support.x[0], episode.support.y[0])
    *_, last = learner.trajectory(learner.meta()[0], support, 2)
    before = dict(learner.network.named_parameters())
    expected = {name for name in before if name.startswith("layers.4.") == (adapts == "head")}
    assert {name for name in last if not torch.equal(last[name], before[name])} == set(last) == expected
    _, gradient = meta_gradient(learner, episode)
    assert all(value.abs().sum() > 0 for value in gradient.values())


def test_anil_with_the_whole_network_as_head_is_maml():
    settings, episode = {"inner_lr": 0.05, "inner_steps": 3}, double("sinusoid")
    found = meta_gradient(ANIL(mlp(), head=["*"], **settings), episode)
    assert_same_gradient(found, meta_gradient(MAML(mlp(), **settings), episode), tolerance=1e-14)


def test_boil_is_maml_whose_head_has_rate_zero():
    """The authors' form of it, written out for two steps."""
    learner, episode = BOIL(mlp(), inner_lr=0.05, inner_steps=2, head=HEAD), double("sinusoid")
    losses = []
    for b in range(len(episode.query.y)):
        adapted = dict(learner.network.named_parameters())
        for _ in range(2):
            loss = learner.loss({}, adapted, Labelled(episode.support.x[b], episode.support.y[b]))
            gradients = torch.autograd.grad(loss, list(adapted.values()), create_graph=True)
            adapted = {
                name: value - (0.0 if name.startswith("layers.4.") else 0.05) * gradient
                for (name, value), gradient in zip(adapted.items(), gradients, strict=True)
            }
        losses.append(learner.loss({}, adapted, Labelled(episode.query.x[b], episode.query.y[b])))
    expected = torch.stack(losses).mean()
    expected.backward()
    by_hand = {name: parameter.grad for name, parameter in learner.named_parameters()}
    learner.zero_grad()
    assert_same_gradient(meta_gradient(learner, episode), (expected.detach(), by_hand))


def test_anil_on_linear_features_in_closed_form():
    """Linear body B, linear head w: the adapted head is w - alpha B'A(Bw - ...), and so is what B learns."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Linear(3, 1, bias=False)).double()
    learner = ANIL(network, inner_lr=0.1, head=["1.*"])
    support, query = (Labelled(torch.randn(1, 6, 4).double(), torch.randn(1, 6, 1).double()) for _ in range(2))
    learner.meta_loss(type(double("sinusoid"))(support, query, torch.arange(1))).backward()

    body, head = (parameter.detach() for parameter in network.parameters())
    a, b = (2 * support.x[0].T @ value / 6 for value in (support.x[0], support.y[0]))
    c, d = (2 * query.x[0].T @ value / 6 for value in (query.x[0], query.y[0]))
    theta = body.T @ head.T  # the linear map [4, 1]
    inner = a @ theta - b
    adapted = head.T - 0.1 * body @ inner
    outer = c @ body.T @ adapted - d
    by_head = (torch.eye(3).double() - 0.1 * body @ a @ body.T) @ body @ outer
    through_step = -0.1 * (body @ outer @ inner.T + head.T @ (a @ body.T @ body @ outer).T)
    torch.testing.assert_close(network[1].weight.grad, by_head.T, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(network[0].weight.grad, adapted @ outer.T + through_step, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("algorithm", [ANIL, BOIL])
def test_a_network_without_such_a_head_is_refused(algorithm):
    with pytest.raises(ValueError, match=r"head\.\*' matches none .* layers\.4\.weight"):
        algorithm(mlp())
