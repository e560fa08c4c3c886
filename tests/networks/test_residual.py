"""Residual networks: published sizes, layers written out, DropBlock in tasks, and what is refused."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from metalit import MAML, Engine
from metalit.algorithms import PrototypicalNetwork
from metalit.engine.certified import uncertified
from metalit.networks import WRN2810, Classifier, DropBlock, ResNet12, batch_norm_mode

F64 = torch.float64
NARROW = (2, 3, 3, 4)


def narrow(**settings):
    return ResNet12(**{"channels": NARROW, "in_channels": 1, "image_size": 28, "block_size": 2} | settings)


def thin(**settings):
    return WRN2810(**{"in_channels": 1, "image_size": 28, "depth": 10, "width": 1, "drop_rate": 0.2} | settings)


def images(count=3, channels=1, size=28):
    return torch.rand(count, channels, size, size, dtype=F64, generator=torch.Generator().manual_seed(1))


# The sums over the layers of the authors' code (https://github.com/kjunelee/MetaOptNet, models/ResNet12_embedding.py),
# which papers round to 12.4 and 8.0 million. Zagoruyko and Komodakis 2016 give 36.5 million for WRN-28-10 with its
# classifier of ten classes, which has 6410.
@pytest.mark.parametrize(
    ("make", "count"),
    [
        (ResNet12, 12_424_320),
        (lambda: ResNet12((64, 128, 256, 512)), 7_996_800),
        (WRN2810, 36_479_194 - 6_410),
    ],
    ids=["ResNet12", "ResNet12 of TADAM", "WRN2810"],
)
def test_the_number_of_parameters_is_the_papers(make, count):
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in make().parameters()) == count


@pytest.mark.parametrize("batch_norm", ["batch", "running", "renorm", "none", None])
@pytest.mark.parametrize(("channels", "size"), [(1, 16), (3, 33)])
def test_embeddings_are_as_long_as_they_say(channels, size, batch_norm):
    settings = {"in_channels": channels, "image_size": size, "batch_norm": batch_norm}
    for network in (narrow(**settings), narrow(output="flatten", **settings), thin(**settings)):
        network = network.double()
        assert network(images(2, channels, size)).shape == (2, network.features)
        assert batch_norm_mode(network) == (batch_norm or "batch")


def test_published_lengths_of_embeddings():
    with torch.device("meta"):
        networks = ResNet12(), ResNet12(output="flatten"), ResNet12(output="flatten", image_size=32), WRN2810()
    assert [network.features for network in networks] == [640, 16000, 2560, 640]


def normalised(x, norm):
    return F.batch_norm(x, None, None, norm.weight, norm.bias, training=True)


def test_resnet12_written_out():
    network = narrow(drop_rate=0.0).double()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    x = maps = images()
    for block in network.blocks:
        first, norm1, _, second, norm2, _, third, norm3 = block.path
        out = F.leaky_relu(normalised(F.conv2d(maps, first.weight, padding=1), norm1), 0.1)
        out = F.leaky_relu(normalised(F.conv2d(out, second.weight, padding=1), norm2), 0.1)
        out = normalised(F.conv2d(out, third.weight, padding=1), norm3)
        short = normalised(F.conv2d(maps, block.shortcut[0].weight), block.shortcut[1])
        maps = F.max_pool2d(F.leaky_relu(out + short, 0.1), 2)
    torch.testing.assert_close(network(x), maps.mean((2, 3)), rtol=1e-10, atol=1e-10)
    network.average = False
    torch.testing.assert_close(network(x), maps.flatten(1), rtol=1e-10, atol=1e-10)


def test_wide_resnet_written_out():
    network = thin(width=2, depth=16, drop_rate=0.0).double()
    x = images()
    maps = F.conv2d(x, network.first.weight, padding=1)
    for i, block in enumerate(network.blocks):
        stride = 2 if i in (2, 4) else 1
        first, norm, _, _, second = block.path
        active = normalised(maps, block.before[0]).relu()
        out = normalised(F.conv2d(active, first.weight, stride=stride, padding=1), norm).relu()
        # the first block of a group changes the number of channels
        short = maps if i % 2 else F.conv2d(active, block.shortcut.weight, stride=stride)
        maps = F.conv2d(out, second.weight, padding=1) + short
    assert maps.shape[1:] == (128, 7, 7)
    torch.testing.assert_close(
        network(x), normalised(maps, network.last[0]).relu().mean((2, 3)), rtol=1e-10, atol=1e-10
    )


def test_drop_block_is_where_the_paper_has_it():
    drops = [block.end[-1] for block in ResNet12(NARROW).blocks]
    assert [(drop.drop_rate, drop.block_size) for drop in drops] == [(0.1, 1), (0.1, 1), (0.1, 5), (0.1, 5)]
    assert all(isinstance(drop, DropBlock) for drop in drops)


@pytest.mark.parametrize("make", [narrow, thin])
def test_evaluation_drops_nothing_and_the_memory_layout_changes_no_number(make):
    torch.manual_seed(0)
    plain = make().double()
    torch.manual_seed(0)
    undropped = make(drop_rate=0.0, channels_last=True).double()
    assert not torch.equal(plain(images()), plain(images()))
    torch.testing.assert_close(plain.eval()(images()), undropped(images()), rtol=1e-10, atol=1e-10)


LEARNERS = {
    "MAML": lambda engine: MAML(Classifier(narrow(drop_rate=0.3), ways=3), inner_lr=0.1, inner_steps=2, engine=engine),
    "ProtoNet": lambda engine: PrototypicalNetwork(narrow(drop_rate=0.3), engine=engine),
    "ProtoNet of WRN2810": lambda engine: PrototypicalNetwork(thin(), engine=engine),
}


def learner(name, engine=None):
    torch.manual_seed(3)
    return LEARNERS[name](engine or Engine()).double()


@pytest.mark.parametrize("name", LEARNERS)
def test_vmap_chunks_and_recomputation_give_the_loops_gradient_with_drop_block_on(name):
    episode = double("glyphs", shots=1, queries=2)
    expected = meta_gradient(learner(name, Engine("loop")), episode)
    for engine in (Engine(differentiate="over"), Engine(chunk_size=3)):
        torch.manual_seed(17)  # nothing is drawn from torch's generator
        assert_same_gradient(meta_gradient(learner(name, engine), episode), expected)
    undropped = learner(name, Engine("loop"))
    for module in undropped.modules():
        if isinstance(module, (DropBlock, nn.Dropout)):
            module.eval()
    assert meta_gradient(undropped, episode)[0] != expected[0]


def test_checkpointed_inner_steps_see_the_same_squares():
    episode = double("glyphs", shots=1, queries=2)
    expected = meta_gradient(learner("MAML"), episode)
    checkpointed = learner("MAML")
    checkpointed.checkpoint_steps = True
    assert_same_gradient(meta_gradient(checkpointed, episode), expected)


def test_a_task_has_the_same_squares_whichever_tasks_are_beside_it():
    episode = double("glyphs", shots=1, queries=2)
    of_resumed = learner("ProtoNet")
    of_resumed.load_state_dict(learner("ProtoNet").state_dict())  # the seed of tasks with it
    second = type(episode)(*(type(part)(*(leaf[1:2] for leaf in part)) for part in episode[:2]), episode.index[1:2])
    torch.testing.assert_close(
        of_resumed(second).predictions, learner("ProtoNet")(episode).predictions[1:2], rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("name", LEARNERS)
def test_gradients_are_taken_over_vmap(name):
    assert uncertified(learner(name)) is None


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (ResNet12, {"channels": (1, 2, 3)}, "channels is .*four"),
        (ResNet12, {"channels": (1, 2, 3, 0)}, "channels is 0"),
        (ResNet12, {"image_size": 15}, "image_size is 15.*16"),
        (ResNet12, {"drop_rate": 1.0}, "drop_rate is 1.0"),
        (ResNet12, {"block_size": 0}, "block_size is 0"),
        (WRN2810, {"depth": 27}, "depth is 27.*multiple of 6"),
        (WRN2810, {"width": 0}, "width is 0"),
        (WRN2810, {"drop_rate": -1.0}, "drop_rate is -1.0"),
    ],
)
def test_impossible_settings_are_refused(network, settings, message):
    with torch.device("meta"), pytest.raises(ValueError, match=message):
        network(**settings)


@pytest.mark.parametrize("make", [narrow, thin])
@pytest.mark.parametrize("shape", [(1, 3, 28, 28), (1, 1, 27, 28), (1, 1, 32, 32)])
def test_images_of_another_shape_are_refused(make, shape):
    with pytest.raises(ValueError, match=r"in_channels is|image_size is"):
        make()(torch.zeros(shape))
