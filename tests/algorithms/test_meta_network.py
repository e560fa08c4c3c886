"""Meta networks (authors' code: MetaNetFull.py, here in the copy chenyaxian/metanet at 33e0ba5).

https://github.com/chenyaxian/metanet/blob/33e0ba5afdcde14f011c197b88452955bdf697d0/MetaNetFull.py
"""

import pytest
import torch
import torch.nn.functional as F

from metalit import Episode, Labelled
from metalit.algorithms import MetaNetwork
from metalit.functional import log_and_sign
from metalit.networks import AugmentedConvNet

WAYS, SHOTS, QUERIES, SIZE = 3, 2, 4, 8
STEPS = WAYS * SHOTS


def make(**settings):
    torch.manual_seed(0)
    network = AugmentedConvNet(channels=4, blocks=2, image_size=SIZE, ways=WAYS)
    learner = MetaNetwork(network, **({"generator_size": 5, "key_steps": 3} | settings)).double()
    for generator in (*learner.generators.values(), *learner.key_generators.values()):
        for parameter in generator.parameters():  # large, so that an error is seen
            torch.nn.init.normal_(parameter, std=0.5)
    return learner


@pytest.fixture
def support():
    torch.manual_seed(1)
    return Labelled(torch.rand(STEPS, 1, SIZE, SIZE).double(), torch.tensor([2, 0, 0, 1, 2, 1]))


@pytest.fixture
def query():
    torch.manual_seed(2)
    return Labelled(torch.rand(QUERIES, 1, SIZE, SIZE).double(), torch.tensor([0, 2, 1, 1]))


def read(learner, support, query):
    meta = learner.meta()[0]
    return learner.answer(meta, learner.read(meta, support)[0], query.x)


def two_paths(network, x, fast):
    """The layers written out: hidden layer before its ReLU, and logits."""
    for i, convolution in enumerate(network.convolutions):
        slow_path, fast_path = convolution(x), F.conv2d(x, fast[f"convolutions.{i}.weight"], padding=1)
        x = F.max_pool2d(slow_path.relu() + fast_path.relu(), 2)
    x = x.flatten(1)
    slow_path, fast_path = network.hidden(x), x @ fast["hidden.weight"].T
    hidden = slow_path.relu() + fast_path.relu()
    return slow_path + fast_path, network.head(hidden) + hidden @ fast["head.weight"].T


def gradients(network, x, y):
    moving = {name: value.detach().clone().requires_grad_() for name, value in network.named_parameters()}
    loss = F.cross_entropy(torch.func.functional_call(network, moving, (x,))[1], y)
    return dict(zip(moving, torch.autograd.grad(loss, list(moving.values())), strict=True))


def test_algorithm_by_hand(support, query):
    learner = make()
    parts = [slice(0, 2), slice(2, 4), slice(4, 6)]
    fast_keys, memory = {}, []
    slopes = [gradients(learner.key_network, support.x[part], support.y[part]) for part in parts]
    fast_keys["head.weight"] = torch.zeros_like(learner.key_network.head.weight)  # above the key
    for name, parameter in learner.key_network.named_parameters():
        generator = learner.key_generators["convolution" if parameter.dim() == 4 else "linear"]
        cell = torch.nn.LSTMCell(2, 5).double()
        cell.load_state_dict(
            {"weight_ih": generator.lstm.inputs.weight, "bias_ih": generator.lstm.inputs.bias,
             "weight_hh": generator.lstm.hidden.weight, "bias_hh": torch.zeros(20)}
        )  # fmt: skip
        state = None
        for slope in slopes:
            state = cell(log_and_sign(slope[name].flatten(), 7), state)
        fast_keys[name] = generator.head(state[0]).reshape(parameter.shape)
    for i in range(STEPS):
        slope = gradients(learner.network, support.x[i : i + 1], support.y[i : i + 1])
        memory.append(
            {
                name: learner.generators["convolution" if value.dim() == 4 else "linear"](value)
                for name, value in slope.items()
            }
        )
    keys, _ = two_paths(learner.key_network, torch.cat([support.x, query.x]), fast_keys)
    found = read(learner, support, query)
    for q in range(QUERIES):
        attention = F.cosine_similarity(keys[:STEPS], keys[STEPS + q].unsqueeze(0)).softmax(0)
        fast = {name: sum(a * slot[name] for a, slot in zip(attention, memory, strict=True)) for name in memory[0]}
        expected = two_paths(learner.network, query.x[q : q + 1], fast)[1][0]
        torch.testing.assert_close(found[q], expected, rtol=1e-5, atol=1e-6)


def test_without_fast_weights_it_is_the_slow_network(support, query):
    learner = make()
    for generator in learner.generators.values():
        torch.nn.init.zeros_(generator.mlp.layers[-1].weight)
        torch.nn.init.zeros_(generator.mlp.layers[-1].bias)
    torch.testing.assert_close(read(learner, support, query), learner.network(query.x)[1])


def test_gradients_of_the_support_loss_are_constants(support, query, monkeypatch):
    """The meta-gradient is the same if they are handed in as numbers."""
    learner = make()
    trained = learner.meta()[0]

    def meta_gradient():
        loss = F.cross_entropy(read(learner, support, query), query.y)
        return torch.autograd.grad(loss, list(trained.values()))

    expected = meta_gradient()
    of_parts = [gradients(learner.key_network, support.x[i : i + 2], support.y[i : i + 2]) for i in (0, 2, 4)]
    of_each = [gradients(learner.network, support.x[i : i + 1], support.y[i : i + 1]) for i in range(STEPS)]

    def given_memory(meta, support):
        stacked = {name: torch.stack([slope[name] for slope in of_each]) for name in of_each[0]}
        return {name: learner.generated("generators", meta, name, value) for name, value in stacked.items()}

    monkeypatch.setattr(learner, "gradient", lambda *_: of_parts.pop(0))
    monkeypatch.setattr(learner, "generate", given_memory)
    for found, wanted in zip(meta_gradient(), expected, strict=True):
        torch.testing.assert_close(found, wanted)


def test_fast_weights_of_some_layers_only(support, query):
    learner = make(fast=["head.*"])
    assert (list(learner.generators), list(learner.key_generators)) == (["linear"], [])
    memory = learner.generate(learner.meta()[0], support)
    assert {name: tuple(value.shape) for name, value in memory.items()} == {"head.weight": (STEPS, WAYS, 4)}
    assert read(learner, support, query).shape == (QUERIES, WAYS)


def test_the_key_network_has_weights_of_its_own():
    learner = make()
    keys = learner.key_network.state_dict()
    assert all(not torch.equal(value, keys[name]) for name, value in learner.network.state_dict().items())
    assert "head.weight" not in dict(learner.key_network.named_parameters())  # no key depends on it


def test_every_layer_adds_a_fast_path_to_the_slow_one():
    """Fast weights equal to the slow ones double every layer's output, for ReLU and maximum are homogeneous."""
    torch.manual_seed(0)
    network = AugmentedConvNet(channels=4, blocks=3, image_size=9, ways=WAYS)
    x = torch.randn(5, 1, 9, 9)
    (key, logits), (slow_key, slow_logits) = network(x, dict(network.named_parameters())), network(x)
    torch.testing.assert_close(key, 2**4 * slow_key)
    torch.testing.assert_close(logits, 2**5 * slow_logits)
    with pytest.raises(ValueError, match=r"image_size is 9, expected .* 8x8"):
        network(x[..., :8, :8])


@pytest.mark.parametrize("settings", [{"generator_size": 0}, {"key_steps": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        make(**settings)
    with pytest.raises(ValueError, match=r"the pattern 'body.\*' matches none"):
        make(fast=["body.*"])


def test_other_numbers_of_classes_are_refused(support, query):
    two = support.y.clamp(max=1)
    episode = Episode(
        *(Labelled(x.unsqueeze(0), y.unsqueeze(0)) for x, y in ((support.x, two), query)), torch.arange(1)
    )
    with pytest.raises(ValueError, match="ways is 3"):
        make()(episode)
