"""Shapes, parameter counts and the batch-norm setting of the networks."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit.networks import MLP, Classifier, Conv4, batch_norm_mode
from metalit.networks.normalisation import BatchRenorm2d


@pytest.mark.parametrize(("size", "features"), [(28, 64), (32, 256), (84, 1600)])
def test_pooling_conv4_has_the_embedding_length_of_the_papers(size, features):
    network = Conv4(in_channels=3, image_size=size)
    assert network.features == features
    assert network(torch.rand(2, 3, size, size)).shape == (2, features)


def test_strided_conv4_averages_over_space():
    network = Conv4(downsample="stride", image_size=28)
    assert network.features == 64
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 64)


def test_conv4_has_the_published_number_of_parameters():
    """4 blocks of 3x3 convolutions with bias and batch norm: Vinyals et al.'s embedding has 111 936 on Omniglot."""
    convolutions = 1 * 64 * 9 + 64 + 3 * (64 * 64 * 9 + 64)
    assert sum(p.numel() for p in Conv4().parameters()) == convolutions + 4 * 2 * 64


@pytest.mark.parametrize("mode", ["batch", "running", "renorm", "none"])
def test_batch_norm_mode_is_what_was_asked_for(mode):
    network = Conv4(channels=4, batch_norm=mode)
    assert batch_norm_mode(network) == mode
    network.eval()
    x = torch.rand(5, 1, 28, 28)
    together, alone = network(x)[:1], network(x[:1])
    assert torch.allclose(together, alone, atol=1e-6) == (mode != "batch")


def renorm(mean=0.0, batches=10**6, **bounds):
    layer = BatchRenorm2d(4, **bounds).double()
    layer.running_mean.fill_(mean)
    layer.running_var.uniform_(0.5, 2.0)
    layer.num_batches_tracked.fill_(batches)
    layer.weight.data.uniform_(0.5, 1.5)
    layer.bias.data.uniform_(-1.0, 1.0)
    return layer


def test_batch_renorm_trains_with_the_statistics_of_evaluation():
    layer, x = renorm(mean=0.3), torch.randn(6, 4, 3, 3, dtype=torch.float64)
    expected = deepcopy(layer).eval()(x)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_batch_renorm_is_batch_norm_at_first():
    layer, x = renorm(batches=0), torch.randn(6, 4, 3, 3, dtype=torch.float64)
    plain = nn.BatchNorm2d(4).double()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x), plain(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)


def test_batch_renorm_has_the_gradient_of_batch_norm_times_r():
    """The factors r and d are constants to the gradient (algorithm 1 of the paper)."""
    layer, x = renorm(), torch.randn(6, 4, 3, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    r = ((x.var((0, 2, 3), correction=0) + layer.eps) / (layer.running_var + layer.eps)).sqrt().detach()
    plain = F.batch_norm(x, None, None, layer.weight.detach(), training=True, eps=layer.eps)
    expected = torch.autograd.grad((plain * weights * r[:, None, None]).sum(), x)
    torch.testing.assert_close(torch.autograd.grad((layer(x) * weights).sum(), x), expected)


@pytest.mark.parametrize(("batches", "r_max", "d_max"), [(10**6, 3.0, 5.0), (250, 2.0, 2.5)])
def test_batch_renorm_corrects_no_further_than_its_bounds(batches, r_max, d_max):
    layer = renorm(batches=batches)
    x = torch.randn(6, 4, 3, 3, dtype=torch.float64)
    plain = F.batch_norm(1e3 * x + 1e6, None, None, training=True)
    expected = layer.weight[:, None, None] * (plain * r_max + d_max) + layer.bias[:, None, None]
    torch.testing.assert_close(layer(1e3 * x + 1e6), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("bound", "message"),
    [({"r_max": 0.5}, "r_max is 0.5"), ({"d_max": -1.0}, "d_max is -1"), ({"opening": 0}, "opening is 0")],
)
def test_impossible_bounds_are_refused(bound, message):
    with pytest.raises(ValueError, match=message):
        BatchRenorm2d(4, **bound)


def test_mixed_modes_are_said():
    assert batch_norm_mode(nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))) == "mixed"
    assert batch_norm_mode(nn.Sequential(nn.BatchNorm2d(2), BatchRenorm2d(2))) == "mixed"


def test_the_memory_layout_changes_no_number():
    plain, channels_last = Conv4(channels=4), Conv4(channels=4, channels_last=True)
    channels_last.load_state_dict(plain.state_dict())
    assert channels_last.blocks[1][0].weight.is_contiguous(memory_format=torch.channels_last)
    x = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(channels_last(x), plain(x))


def test_small_images_are_refused():
    with pytest.raises(ValueError, match="image_size is 15"):
        Conv4(image_size=15)


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (Conv4, {"channels": 0}, "channels is 0"),
        (Conv4, {"in_channels": -1}, "in_channels is -1"),
        (MLP, {"inputs": 0}, "inputs is 0"),
        (MLP, {"outputs": -3}, "outputs is -3"),
        (MLP, {"hidden": [40, 0]}, r"hidden is \[40, 0\]"),
        (Classifier, {"body": MLP(), "ways": 0}, "ways is 0"),
        (Classifier, {"body": MLP(), "features": 0}, "features is 0"),
    ],
)
def test_impossible_sizes_are_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        network(**settings)


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (Conv4(channels=2), (1, 3, 28, 28), "in_channels is 1"),
        (Conv4(channels=2), (1, 1, 84, 84), "image_size is 28"),
        (
            Conv4(channels=2, downsample="stride"),
            (1, 1, 28, 20),
            "image_size is 28",
        ),
        (MLP(inputs=2), (4, 3), "inputs is 2"),
    ],
)
def test_data_of_another_shape_are_refused(network, shape, message):
    with pytest.raises(ValueError, match=message):
        network(torch.zeros(shape))


def test_mlp_without_hidden_layers_is_linear():
    assert [tuple(p.shape) for p in MLP(inputs=2, hidden=(), outputs=3).parameters()] == [(3, 2), (3,)]


def test_mlp_has_the_layers_asked_for():
    network = MLP(inputs=2, hidden=(3, 4), outputs=5)
    assert [tuple(p.shape) for p in network.parameters()] == [(3, 2), (3,), (4, 3), (4,), (5, 4), (5,)]
    assert network(torch.randn(7, 2)).shape == (7, 5)


def test_classifier_puts_a_head_on_any_body():
    assert Classifier(Conv4(channels=4), ways=3)(torch.rand(2, 1, 28, 28)).shape == (2, 3)
    body = nn.Sequential(nn.Flatten(), nn.Linear(6, 8))
    assert Classifier(body, ways=3, features=8)(torch.rand(2, 2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"Sequential does not say how long its embedding is"):
        Classifier(body, ways=3)
