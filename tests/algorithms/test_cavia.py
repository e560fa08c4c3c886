"""CAVIA (Zintgraf et al. 2019, https://arxiv.org/abs/1810.03642), after the authors' code:
https://github.com/lmzintgraf/cavia/tree/91f093af9d6f463ee651db533f6c2acc637c7e9f
"""

import pytest
import torch

from algorithms.test_battery import assert_same_gradient, double, learner, meta_gradient
from metalit import Labelled
from metalit.algorithms import CAVIA
from metalit.functional import task_loss
from metalit.networks import MLP, Classifier, ContextMLP, Conv4, FiLMConv4


def task(episode, b):
    return (Labelled(part.x[b], part.y[b]) for part in episode[:2])


@pytest.mark.parametrize("domain", ["sinusoid", "glyphs"])
def test_only_the_context_adapts_and_begins_at_zero(domain):
    algorithm, episode = learner("CAVIA", domain, inner_steps=2), double(domain)
    support, _ = task(episode, 0)
    parameters, buffers = algorithm.meta()
    first, second, _ = algorithm.trajectory({**parameters, **buffers}, support, 2)
    assert set(first) == {"context"} == set(algorithm.adapted_names)
    assert first["context"].shape == (algorithm.network.context_size,)
    assert not first["context"].any()
    assert second["context"].all()  # no direction is without a gradient at zero
    assert algorithm.setting()["adapted"] == ["context"]


@pytest.mark.parametrize("steps", [1, 3])
def test_with_context_beside_the_input_it_is_maml_on_the_first_bias(steps):
    """A context phi is a bias W_phi phi, so the first bias descends at the matrix of rates alpha W_phi W_phi'."""
    torch.manual_seed(0)
    network = ContextMLP(inputs=1, hidden=(8, 8), outputs=1, context_size=3).double()
    algorithm, episode = CAVIA(network, inner_lr=0.3, inner_steps=steps), double("sinusoid")
    weights = {name: value.detach().requires_grad_() for name, value in network.named_parameters()}
    first, bias = weights["mlp.layers.0.weight"], weights["mlp.layers.0.bias"]

    def loss(bias, examples):
        hidden = torch.relu(examples.x @ first[:, :1].T + bias)
        for layer in (2, 4):
            hidden = hidden @ weights[f"mlp.layers.{layer}.weight"].T + weights[f"mlp.layers.{layer}.bias"]
            hidden = torch.relu(hidden) if layer == 2 else hidden
        return task_loss(hidden, examples.y)

    losses = []
    for b in range(len(episode.query.y)):
        support, query = task(episode, b)
        adapted = bias
        for _ in range(steps):
            (gradient,) = torch.autograd.grad(loss(adapted, support), adapted, create_graph=True)
            adapted = adapted - 0.3 * first[:, 1:] @ first[:, 1:].T @ gradient
        losses.append(loss(adapted, query))
    expected = torch.stack(losses).mean()
    gradients = torch.autograd.grad(expected, list(weights.values()))
    by_hand = dict(zip((f"network.{name}" for name in weights), gradients, strict=True))
    assert_same_gradient(meta_gradient(algorithm, episode), (expected.detach(), by_hand))


def test_context_modulates_the_third_block_before_its_relu():
    """With a context of zero it is Conv4 with a head, for pooling and ReLU commute."""
    torch.manual_seed(0)
    network = FiLMConv4(channels=4, ways=3, context_size=6).double()
    plain = Classifier(Conv4(channels=4), ways=3).double()
    ours = [value for name, value in network.named_parameters() if not name.startswith("film.")]
    for theirs, value in zip(plain.parameters(), ours, strict=True):
        theirs.data.copy_(value.data)
    x, context = torch.rand(5, 1, 28, 28).double(), torch.randn(6).double()
    torch.testing.assert_close(network(x, torch.zeros(6).double()), plain(x), rtol=1e-12, atol=1e-12)

    maps = x
    for block in plain.body.blocks[:2]:
        maps = block(maps)
    convolution, norm, _, pool = plain.body.blocks[2]
    scale, shift = (network.film.weight @ context + network.film.bias).reshape(2, 1, 4, 1, 1)
    maps = torch.relu(pool(norm(convolution(maps))) * scale + shift)
    expected = plain.head(plain.body.blocks[3](maps).flatten(1))
    torch.testing.assert_close(network(x, context), expected, rtol=1e-12, atol=1e-12)


def test_a_network_without_context_is_refused():
    with pytest.raises(ValueError, match=r"MLP has no context_size: .* ContextMLP or FiLMConv4"):
        CAVIA(MLP())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ContextMLP(context_size=0), "context_size is 0"),
        (lambda: ContextMLP(inputs=0), "inputs is 0"),
        (lambda: ContextMLP()(torch.zeros(3, 2), torch.zeros(5)), "inputs is 1"),
        (lambda: FiLMConv4(ways=0), "ways is 0"),
        (lambda: FiLMConv4(image_size=15), "image_size is 15"),
        (lambda: FiLMConv4()(torch.zeros(2, 3, 28, 28), torch.zeros(100)), "in_channels is 1, expected 3"),
    ],
)
def test_impossible_networks_and_data_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
