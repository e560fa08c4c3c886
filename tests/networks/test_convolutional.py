"""Convolutional networks: shapes over their options, layers written out, published sizes, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit.networks import (
    MLP,
    AugmentedConvNet,
    Classifier,
    Conv4,
    ConvMaps,
    ImageGenerator,
    Pixels,
    RelationModule,
)

F64 = torch.float64


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def make(cls, *args, **settings):
    torch.manual_seed(0)
    return cls(*args, **settings).double()


def images(count=3, channels=1, size=28):
    return torch.rand(count, channels, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("downsample", ["pool", "stride"])
@pytest.mark.parametrize("batch_norm", ["batch", "running", "renorm", "none", None])
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 31), (2, 33)])
def test_conv4_embeds_as_long_as_it_says(channels, size, downsample, batch_norm):
    network = make(Conv4, 3, channels, size, downsample, batch_norm)
    assert network(images(2, channels, size)).shape == (2, network.features)
    assert network.features == (3 * (size // 16) ** 2 if downsample == "pool" else 3)


def test_pooling_conv4_written_out():
    network = make(Conv4, channels=4)
    x = maps = images()
    for convolution, norm, *_ in network.blocks:
        maps = F.conv2d(maps, convolution.weight, convolution.bias, padding=1)
        maps = F.batch_norm(maps, None, None, norm.weight, norm.bias, training=True)
        maps = F.max_pool2d(maps.relu(), 2)
    torch.testing.assert_close(network(x), maps.flatten(1), rtol=1e-12, atol=1e-12)


def test_strided_conv4_written_out():
    network = make(Conv4, channels=4, downsample="stride", batch_norm="none")
    x = maps = images()
    for convolution, *_ in network.blocks:
        maps = F.conv2d(maps, convolution.weight, convolution.bias, stride=2, padding=1).relu()
    assert maps.shape[2:] == (2, 2)
    torch.testing.assert_close(network(x), maps.mean((2, 3)), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("network", "count"),
    [
        (Conv4(in_channels=3, image_size=84), 113_088),  # the Conv4 of Chen et al. 2019
        (
            Classifier(Conv4(32, in_channels=3, image_size=84), ways=5),
            32_901,
        ),  # that of Ravi and Larochelle 2017
        (MLP(), 1_761),  # 1-40-40-1, of MAML on sinusoids
        (Pixels(), 0),
    ],
    ids=["Conv4", "Conv4-32 and head", "MLP", "Pixels"],
)
def test_the_number_of_parameters_is_the_papers(network, count):
    assert parameters(network) == count


@pytest.mark.parametrize(("size", "left"), [(12, 1), (28, 5), (29, 5), (84, 19)])
def test_conv_maps_have_the_size_they_say(size, left):
    network = make(ConvMaps, channels=2, in_channels=3, image_size=size)
    assert network.size == left
    assert network(images(2, 3, size)).shape == (2, network.channels, left, left)


def test_conv_maps_written_out():
    network = make(ConvMaps, channels=3, batch_norm="none")
    x = maps = images()
    for i, (convolution, *_) in enumerate(network.blocks):
        maps = F.conv2d(maps, convolution.weight, convolution.bias, padding=0 if i < 2 else 1).relu()
        maps = F.max_pool2d(maps, 2) if i < 2 else maps
    torch.testing.assert_close(network(x), maps, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("network", "shape"), [(ConvMaps, (2, 1, 28, 28)), (RelationModule, (2, 128, 5, 5))])
def test_the_memory_layout_changes_no_number(network, shape):
    plain, channels_last = make(network), make(network, channels_last=True)
    x = torch.rand(shape, dtype=F64)
    torch.testing.assert_close(channels_last(x), plain(x), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [4, 5, 8])
def test_relation_module_written_out(size):
    network = make(RelationModule, channels=2, size=size, hidden=3, batch_norm="none")
    pairs = maps = torch.randn(4, 4, size, size, dtype=F64)
    for convolution, *_ in network.blocks:
        maps = F.max_pool2d(F.conv2d(maps, convolution.weight, convolution.bias, padding=1).relu(), 2)
    first, _, second = network.head
    logits = second(first(maps.flatten(1)).relu())
    assert network(pairs).shape == (4,)
    torch.testing.assert_close(network(pairs), logits[:, 0], rtol=1e-12, atol=1e-12)


def test_a_pair_is_related_the_other_way_round_by_other_weights():
    """The relation is not symmetric: which side a map stands on matters."""
    network = make(RelationModule, channels=2, size=4, batch_norm="none")
    one, other = torch.randn(2, 3, 2, 4, 4, dtype=F64)
    assert not torch.allclose(network(torch.cat([one, other], 1)), network(torch.cat([other, one], 1)))


@pytest.mark.parametrize(("blocks", "size", "width"), [(1, 28, 14 * 14), (5, 28, 1), (5, 33, 4), (2, 7, 4), (3, 1, 1)])
def test_augmented_net_halves_and_rounds_up(blocks, size, width):
    network = make(AugmentedConvNet, channels=2, blocks=blocks, image_size=size, ways=3)
    assert network.hidden.in_features == 2 * width
    key, logits = network(images(4, 1, size))
    assert key.shape == (4, 2)
    assert logits.shape == (4, 3)


def test_augmented_net_without_fast_weights_is_a_plain_one():
    network = make(AugmentedConvNet, channels=3, blocks=2, image_size=9)
    x = maps = images(size=9)
    for convolution in network.convolutions:
        maps = F.max_pool2d(F.conv2d(maps, convolution.weight, padding=1).relu(), 2, ceil_mode=True)
    key = maps.flatten(1) @ network.hidden.weight.T
    for fast in (None, {}, {name: torch.zeros_like(weight) for name, weight in network.named_parameters()}):
        found_key, logits = network(x, fast)
        torch.testing.assert_close(found_key, key, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(logits, key.relu() @ network.head.weight.T, rtol=1e-12, atol=1e-12)


def test_fast_weights_of_the_head_are_added_to_the_slow_ones():
    network, x = make(AugmentedConvNet, channels=3, blocks=2), images()
    fast = torch.randn(5, 3, dtype=F64)
    (key, with_fast), (same, without) = network(x, {"head.weight": fast}), network(x)
    assert torch.equal(key, same)
    torch.testing.assert_close(with_fast - without, key.relu() @ fast.T, rtol=1e-10, atol=1e-10)


def test_a_network_without_biases_is_homogeneous():
    """As ReLU and the maximum are: three times the image gives three times the logits."""
    network, x = make(AugmentedConvNet, channels=3), images()
    torch.testing.assert_close(network(3 * x)[1], 3 * network(x)[1], rtol=1e-10, atol=1e-10)


def test_pixels_are_means_of_pixels():
    x = images(2, 3, 28)
    assert torch.equal(Pixels(28, 3)(x), x.flatten(1))
    torch.testing.assert_close(Pixels(14, 3)(x), F.avg_pool2d(x, 2).flatten(1), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Pixels(1, 3)(x), x.mean((2, 3)), rtol=1e-12, atol=1e-12)
    assert Pixels(20, 3)(x).shape == (2, Pixels(20, 3).features)


@pytest.mark.parametrize("size", [4, 5, 28, 30])
@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 2.0)])
def test_generated_images_have_the_size_and_range_of_the_set(size, low, high):
    generator = make(ImageGenerator, 4, 3, 2, 2, size, low, high)
    made = generator(images(6, 2, size), 5)
    assert made.shape == (5, 2, size, size)
    assert low < made.min() < made.max() < high


def test_a_set_is_described_whatever_its_order_and_its_repetitions():
    generator, x = make(ImageGenerator, 4, 3, 2), images(4)

    def generated(of):
        torch.manual_seed(0)  # the noise
        return generator(of, 3)

    expected = generated(x)
    torch.testing.assert_close(generated(x.flip(0)), expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(generated(x.repeat(2, 1, 1, 1)), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(generated(x[:2]), expected)


def test_generated_images_differ_by_their_noise_alone():
    made = make(ImageGenerator, 4, 3, 2, batch_norm="none")(images(4), 3)
    assert not torch.allclose(made[0], made[1])


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (ConvMaps, {"channels": 0}, "channels is 0"),
        (ConvMaps, {"in_channels": 0}, "in_channels is 0"),
        (ConvMaps, {"image_size": 11}, "image_size is 11.*12"),
        (RelationModule, {"channels": 0}, "channels is 0"),
        (RelationModule, {"size": 3}, "size is 3.*4"),
        (RelationModule, {"hidden": 0}, "hidden is 0"),
        (AugmentedConvNet, {"channels": 0}, "channels is 0"),
        (AugmentedConvNet, {"blocks": 0}, "blocks is 0"),
        (AugmentedConvNet, {"image_size": 0}, "image_size is 0"),
        (AugmentedConvNet, {"ways": 0}, "ways is 0"),
        (Pixels, {"image_size": 0}, "image_size is 0"),
        (Pixels, {"in_channels": 0}, "in_channels is 0"),
        (ImageGenerator, {"noise": 0}, "noise is 0"),
        (ImageGenerator, {"features": -1}, "features is -1"),
        (ImageGenerator, {"image_size": 3}, "image_size is 3.*4"),
        (ImageGenerator, {"low": 1.0, "high": 1.0}, "low"),
        (ImageGenerator, {"low": float("nan")}, "low"),
    ],
)
def test_impossible_settings_are_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        network(**settings)


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (ConvMaps(channels=2), (1, 3, 28, 28)),
        (ConvMaps(channels=2), (1, 1, 28, 27)),
        (AugmentedConvNet(channels=2), (1, 1, 27, 28)),
        (Pixels(), (1, 3, 28, 28)),
        (lambda x, make=ImageGenerator: make(2, 2, 2)(x, 1), (1, 1, 32, 32)),
    ],
    ids=["maps channels", "maps size", "augmented", "pixels", "generator"],
)
def test_images_of_another_shape_are_refused(network, shape):
    with pytest.raises(ValueError, match=r"in_channels is|image_size is"):
        network(torch.zeros(shape))


@pytest.mark.parametrize(
    ("network", "shape"),
    [(Conv4, (2, 1, 28, 28)), (ConvMaps, (2, 1, 28, 28)), (RelationModule, (2, 8, 5, 5))],
)
def test_without_a_norm_examples_do_not_see_one_another(network, shape):
    network, x = make(network, channels=4, batch_norm="none"), torch.rand(shape, dtype=F64)
    torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-10, atol=1e-10)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
