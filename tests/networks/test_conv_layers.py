"""Blocks of convolutions by metalit's kernels: the learner's numbers are those of torch's functions."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from metalit import FOMAML, MAML, Engine, Episode, Labelled, PrototypicalNetwork
from metalit.kernels import missing
from metalit.networks import Classifier, Conv4, ResNet12, conv_layers
from metalit.networks.conv_layers import Block, ConvLayers, unfit
from metalit.tasks.task_context import TaskContext

needs_kernels = pytest.mark.skipif(missing() is not None, reason=f"no kernels: {missing()}")
WAYS = 3


def episode(channels=1, tasks=2):
    make = torch.Generator().manual_seed(0)

    def part(n):
        x = torch.randn(tasks, n, channels, 18, 18, generator=make, dtype=torch.float64)
        return Labelled(x, torch.arange(n).remainder(WAYS).expand(tasks, n))

    return Episode(part(WAYS), part(2 * WAYS), torch.arange(tasks))


def network(**options):
    torch.manual_seed(0)
    made = Classifier(Conv4(4, image_size=18, **options), ways=WAYS).double()
    with torch.no_grad():
        for parameter in made.parameters():  # some scales are negative
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter))
    return made


def gradients(kind, network, episode, **engine):
    learner = kind(network, inner_lr=0.4, inner_steps=2, engine=Engine(**engine))
    learner.meta_loss(episode).backward()
    return {name: parameter.grad for name, parameter in learner.named_parameters()}


@pytest.fixture
def uses(monkeypatch):
    """How many blocks ran by the kernels."""
    calls, original = [], conv_layers.by_kernels
    monkeypatch.setattr(conv_layers, "by_kernels", lambda *args: calls.append(1) or original(*args))
    return calls


@needs_kernels
@pytest.mark.parametrize("kind", [MAML, FOMAML])
@pytest.mark.parametrize("downsample", ["pool", "stride"])
@pytest.mark.parametrize("engine", [{}, {"mapping": "loop"}, {"differentiate": "inside"}, {"chunk_size": 1}], ids=str)
def test_meta_gradient_is_that_of_torch(kind, downsample, engine, uses):
    made, tasks = network(downsample=downsample), episode()
    expected = gradients(kind, deepcopy(made), tasks, kernels="torch", mapping="loop")
    assert not uses
    found = gradients(kind, made, tasks, **engine)
    assert uses
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-10, atol=1e-10, msg=name)


@needs_kernels
def test_running_statistics_are_those_of_torch(uses):
    updates = []
    for kernels in ("torch", "auto"):
        learner = PrototypicalNetwork(network(batch_norm="running").body, engine=Engine(kernels=kernels))
        updates.append(learner(episode()).buffers)
    assert uses
    assert updates[0].keys() == updates[1].keys() != set()
    for name, value in updates[0].items():
        torch.testing.assert_close(updates[1][name], value, rtol=1e-10, atol=1e-10)


@needs_kernels
def test_copies_and_pickles_compute_the_same(uses):
    made, tasks = network(), episode()
    expected = gradients(MAML, made, tasks)
    for copy in (deepcopy(made), pickle.loads(pickle.dumps(made))):
        copy.zero_grad()
        found = gradients(MAML, copy, tasks)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert uses


def test_names_are_those_of_a_sequential():
    names = {name.removeprefix("blocks.0.") for name in Conv4().state_dict() if name.startswith("blocks.0.")}
    assert names == {"0.weight", "0.bias", "1.weight", "1.bias"}


def block(**layers):
    chosen = {"conv": nn.Conv2d(1, 4, 3), "norm": nn.BatchNorm2d(4), "activation": nn.ReLU(), "pool": nn.MaxPool2d(2)}
    return ConvLayers(*{**chosen, **layers}.values())


def hooked():
    made = block()
    made[1].register_forward_hook(lambda *_: None)
    return made


UNFIT = {
    "hook": hooked(),
    "groups": block(conv=nn.Conv2d(2, 4, 3, groups=2)),
    "reflected": block(conv=nn.Conv2d(1, 4, 3, padding=1, padding_mode="reflect")),
    "same": block(conv=nn.Conv2d(1, 4, 3, padding="same")),
    "wide": block(conv=nn.Conv2d(320, 320, 4), norm=nn.BatchNorm2d(320)),
    "no affine": block(norm=nn.BatchNorm2d(4, affine=False)),
    "no shift": block(norm=nn.BatchNorm2d(4, bias=False)),
    "another norm": block(norm=nn.BatchNorm2d(3)),
    "float64 norm": block(norm=nn.BatchNorm2d(4).double()),
    "evaluation": block(norm=nn.BatchNorm2d(4).eval()),
    "cumulative": block(norm=nn.BatchNorm2d(4, momentum=None)),
    "float16": block().half(),
}


def only_block(layers):
    """The single block of some layers."""
    (found,) = [each for each in layers.blocks() if isinstance(each, Block)]
    return found


@pytest.mark.parametrize("name", UNFIT)
def test_what_kernels_cannot_compute_is_left_to_torch(name):
    made = UNFIT[name]
    conv = made[0]
    assert unfit(only_block(made), torch.zeros(2, conv.in_channels, 8, 8, dtype=conv.weight.dtype))
    assert unfit(only_block(block()), torch.zeros(2, 1, 8, 8)) is None


ALONE = {  # layers that are in no block, by the block that is left
    "transposed": (block(conv=nn.ConvTranspose2d(1, 4, 3)), None),
    "no norm": (block(norm=nn.Identity()), None),
    "group norm": (block(norm=nn.GroupNorm(2, 4)), None),
    "other activation": (block(activation=nn.GELU()), (nn.Identity, nn.Identity)),
    "steep": (block(activation=nn.LeakyReLU(1.5)), (nn.Identity, nn.Identity)),
    "ceil": (block(pool=nn.MaxPool2d(2, ceil_mode=True)), (nn.ReLU, nn.Identity)),
    "overlapping": (block(pool=nn.MaxPool2d(2, stride=1)), (nn.ReLU, nn.Identity)),
    "padded pool": (block(pool=nn.MaxPool2d(2, padding=1)), (nn.ReLU, nn.Identity)),
    "average": (block(pool=nn.AvgPool2d(2)), (nn.ReLU, nn.Identity)),
    "no activation": (ConvLayers(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.MaxPool2d(2)), (nn.Identity, nn.MaxPool2d)),
    "all": (block(), (nn.ReLU, nn.MaxPool2d)),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_block_ends_where_kernels_have_no_layer(name):
    layers, ends = ALONE[name]
    blocks = [each for each in layers.blocks() if isinstance(each, Block)]
    assert [(type(each.activation), type(each.pool)) for each in blocks] == ([] if ends is None else [ends])
    assert sum(len(each) if isinstance(each, Block) else 1 for each in layers.blocks()) >= len(layers)


def mixed():
    """Blocks of each kind, and layers between them that are none."""
    torch.manual_seed(0)
    body = ConvLayers(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4, track_running_stats=False),
        nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5, track_running_stats=False), nn.GELU(), nn.MaxPool2d(2),
        nn.Dropout(0.0), nn.Conv2d(5, 3, 3, stride=2), nn.GroupNorm(1, 3),
        nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4, track_running_stats=False), nn.LeakyReLU(0.2),
        nn.Flatten(),
    )  # fmt: skip
    return Classifier(body, WAYS, features=36).double()


@needs_kernels
@pytest.mark.parametrize("make", [mixed, lambda: Classifier(narrow_resnet(), WAYS).double()], ids=["mixed", "resnet12"])
def test_meta_gradient_of_other_networks_is_that_of_torch(make, uses, monkeypatch):
    monkeypatch.setattr(conv_layers, "MOST_WEIGHTS", 500)  # some layers of the narrow network count as wide
    made, tasks = make(), episode()
    expected = gradients(MAML, deepcopy(made), tasks, kernels="torch", mapping="loop")
    assert not uses
    for mapping in ("vmap", "loop"):
        made.zero_grad()
        found = gradients(MAML, made, tasks, mapping=mapping)
        assert uses
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=1e-9, atol=1e-9, msg=name)


def narrow_resnet():
    torch.manual_seed(0)
    return ResNet12([4, 6, 8, 10], in_channels=1, image_size=18, drop_rate=0.0, batch_norm="batch")


def test_images_that_kernels_cannot_take_are_left_to_torch():
    made = only_block(block())
    assert unfit(made, torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    assert unfit(made, torch.zeros(2, 1, 3, 3))
    assert unfit(made, torch.zeros(2, 3, 8, 8))  # the convolution takes one channel
    assert unfit(made, torch.zeros(2, 1, 8, 8, device="meta"))
    with torch.autocast("cpu"):
        assert unfit(made, torch.zeros(2, 1, 8, 8))


def test_only_a_task_that_allows_them_uses_kernels(uses):
    made, x = block(norm=nn.BatchNorm2d(4, track_running_stats=False)), torch.rand(2, 1, 8, 8)
    expected = made(x)
    with TaskContext(torch.zeros((), dtype=torch.int64), {}):
        made(x)
    assert not uses
    with TaskContext(torch.zeros((), dtype=torch.int64), {}, kernels=True):
        torch.testing.assert_close(made(x), expected)
    assert len(uses) == (missing() is None)


def test_without_a_compiler_torch_computes(monkeypatch, uses):
    monkeypatch.setattr(conv_layers, "missing", lambda: "there is no C++ compiler")
    made, tasks = network(), episode()
    expected = gradients(MAML, deepcopy(made), tasks, kernels="torch")
    found = gradients(MAML, made, tasks)
    assert not uses
    assert all(torch.equal(found[name], value) for name, value in expected.items())
