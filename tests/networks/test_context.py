"""Networks with context parameters: what the context does, and that it does nothing at first."""

import pytest
import torch
from torch import nn

from metalit.networks import MLP, Classifier, ContextMLP, Conv4, FiLMConv4

F64 = torch.float64


def film(batch_norm="batch", **settings):
    torch.manual_seed(0)
    return FiLMConv4(channels=4, ways=3, context_size=6, batch_norm=batch_norm, **settings).double()


def images(count=3):
    return torch.rand(count, 1, 28, 28, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("batch_norm", ["batch", "running", "none"])
def test_with_a_context_of_zero_film_is_the_plain_network(batch_norm):
    network = film(batch_norm)
    plain = Classifier(Conv4(channels=4, batch_norm=batch_norm), ways=3).double()
    for block, of_plain in zip(network.blocks, plain.body.blocks, strict=True):
        of_plain[0].load_state_dict(block[0].state_dict())
    plain.head.load_state_dict(network.head.state_dict())
    found = network(images(), torch.zeros(6, dtype=F64))
    torch.testing.assert_close(found, plain(images()), rtol=1e-10, atol=1e-10)


def test_film_scales_and_shifts_each_map_of_the_third_block():
    network, context = film("none"), torch.randn(6, dtype=F64)
    scale, shift = network.film(context).reshape(2, 4, 1, 1)
    x = images()
    for i, (convolution, _, pool) in enumerate(network.blocks):
        x = pool(convolution(x))
        x = (scale * x + shift if i == 2 else x).relu()
    expected = network.head(x.flatten(1))
    torch.testing.assert_close(network(images(), context), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "x"),
    [(film(), images()), (ContextMLP(2, (5,), 1, context_size=6).double(), torch.randn(3, 2, dtype=F64))],
    ids=["FiLMConv4", "ContextMLP"],
)
def test_a_context_of_zero_has_a_gradient(network, x):
    context = torch.zeros(network.context_size, dtype=F64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(x, context).square().sum(), context)
    assert gradient.shape == (6,)
    assert gradient.abs().min() > 0


@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
def test_context_beside_the_input_is_a_shift_of_the_first_bias(hidden):
    torch.manual_seed(0)
    network, plain = ContextMLP(2, hidden, 3, context_size=4).double(), MLP(2, hidden, 3).double()
    first, of_plain = network.mlp.layers[0], plain.layers[0]
    plain.load_state_dict(network.mlp.state_dict() | {"layers.0.weight": first.weight[:, :2]})
    context, x = torch.randn(4, dtype=F64), torch.randn(6, 2, dtype=F64)
    with torch.no_grad():
        of_plain.bias += first.weight[:, 2:] @ context
    torch.testing.assert_close(network(x, context), plain(x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (ContextMLP, {"inputs": 0}, "inputs is 0"),
        (ContextMLP, {"context_size": 0}, "context_size is 0"),
        (ContextMLP, {"hidden": [3, 0]}, "hidden is"),
        (ContextMLP, {"outputs": 0}, "outputs is 0"),
        (FiLMConv4, {"channels": 0}, "channels is 0"),
        (FiLMConv4, {"ways": 0}, "ways is 0"),
        (FiLMConv4, {"context_size": -1}, "context_size is -1"),
        (FiLMConv4, {"image_size": 15}, "image_size is 15.*16"),
    ],
)
def test_impossible_settings_are_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        network(**settings)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ContextMLP(inputs=2), (3, 1)),
        (FiLMConv4(channels=2), (1, 3, 28, 28)),
        (FiLMConv4(channels=2), (1, 1, 30, 28)),
    ],
)
def test_data_of_another_shape_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"inputs is 2|in_channels is 1|image_size is 28"):
        network(torch.zeros(shape), torch.zeros(network.context_size))


def test_film_begins_with_weights_that_are_not_zero():
    network = FiLMConv4(channels=4, ways=3, context_size=6)
    assert isinstance(network.film, nn.Linear)
    assert network.film.bias.tolist() == [1] * 4 + [0] * 4
    assert network.film.weight.abs().min() > 0
