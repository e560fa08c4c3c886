"""Which learners ``mapping: auto`` computes one task after the other, and that their numbers stay those of vmap."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from metalit import FOMAML, MAML, Engine, Episode, Labelled, PrototypicalNetwork
from metalit.engine import mapping
from metalit.networks import WRN2810, Classifier, Conv4, ResNet12, conv_layers
from metalit.tasks import memory_format

WAYS = 3
NARROW = [4, 6, 8, 10]


def users_own(channels):
    """A network as anybody writes it, of torch's layers alone."""
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, stride=2, padding=1), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, WAYS),
    )  # fmt: skip


LOOPED = {
    "resnet12": lambda: Classifier(ResNet12(), WAYS),
    "wrn": lambda: Classifier(WRN2810(depth=10, width=4), WAYS),
    "own": lambda: users_own(64),
    "narrow resnet12": lambda: Classifier(ResNet12(NARROW), WAYS),
    "narrow own": lambda: users_own(8),
    "mlp": lambda: nn.Linear(1000, 1000),
}
EXPECTED = {"resnet12": "loop", "wrn": "loop", "own": "loop"}


@pytest.mark.parametrize("name", LOOPED)
def test_wide_convolutions_are_looped(name):
    learner = MAML(LOOPED[name]())
    settled = learner.settled_engine()
    assert settled.mapping == EXPECTED.get(name, "vmap")
    assert settled is learner.settled_engine()  # the learner keeps a compiled function for each


@pytest.mark.parametrize("missing", ["no compiler", None])
def test_blocks_that_kernels_compute_are_not_looped(missing, monkeypatch):
    monkeypatch.setattr(mapping, "missing", lambda: missing)
    expected = "loop" if missing else "vmap"
    assert MAML(Classifier(Conv4(64), WAYS)).settled_engine().mapping == expected
    assert MAML(Classifier(Conv4(64), WAYS), engine=Engine(kernels="torch")).settled_engine().mapping == "loop"


def test_what_was_not_measured_is_not_looped():
    learner = MAML(users_own(64))
    with torch.autocast("cpu"):
        assert learner.settled_engine().mapping == "vmap"
    assert learner.to("meta").settled_engine().mapping == "vmap"


@pytest.mark.parametrize("engine", [Engine("vmap"), Engine(compile=True, compile_backend="eager")], ids=str)
def test_a_setting_or_the_compiler_decides_against_the_loop(engine):
    assert MAML(users_own(64), engine=engine).settled_engine().mapping == "vmap"


def episode(classes=WAYS):
    make = torch.Generator().manual_seed(0)

    def part(n):
        x = torch.randn(2, n, 3, 16, 16, generator=make, dtype=torch.float64)
        return Labelled(x, torch.arange(n).remainder(classes).expand(2, n))

    return Episode(part(WAYS), part(2 * WAYS), torch.arange(2))


def narrow():
    return Classifier(ResNet12(NARROW, image_size=16, drop_rate=0.1, block_size=1), WAYS)


def gradient(kind, network, **settings):
    """The meta-gradient, and the running statistics after it."""
    torch.manual_seed(0)  # of the seed of the learner's tasks
    learner = kind(deepcopy(network).double(), inner_lr=0.1, inner_steps=2, **settings)
    learner.meta_loss(episode()).backward()
    return torch.cat([parameter.grad.flatten() for parameter in learner.parameters() if parameter.grad is not None])


@pytest.fixture
def formats(monkeypatch):
    """The memory formats of the images of convolutions; some layers of the narrow networks count as wide."""
    found, original = [], memory_format.F.conv2d

    def noted(input, *args):
        if memory_format.outside_vmap():  # within it torch cannot say
            found.append(input.is_contiguous(memory_format=torch.channels_last))
        return original(input, *args)

    monkeypatch.setattr(mapping, "WIDE", 1)
    monkeypatch.setattr(memory_format, "MOST_WEIGHTS", 300)
    monkeypatch.setattr(conv_layers, "MOST_WEIGHTS", 150)  # of what the kernels compute
    monkeypatch.setattr(memory_format.F, "conv2d", noted)
    return found


@pytest.mark.parametrize("make", [narrow, lambda: users_own(8)], ids=["resnet12", "own"])
@pytest.mark.parametrize("kind", [MAML, FOMAML])
@pytest.mark.parametrize("settings", [{}, {"chunk_size": 1}, {"checkpoint_steps": True}], ids=str)
def test_the_choice_changes_no_number(make, kind, settings, formats, caplog):
    torch.manual_seed(0)
    network, steps = make(), settings.get("checkpoint_steps", False)
    engine = {} if steps else settings
    expected = gradient(kind, network, engine=Engine("vmap", **engine), checkpoint_steps=steps)
    assert not any("one task after the other" in record.message for record in caplog.records)
    formats.clear()
    with caplog.at_level("INFO"):
        found = gradient(kind, network, engine=Engine(**engine), checkpoint_steps=steps)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert {True, False} <= set(formats)
    assert len([record for record in caplog.records if "one task after the other" in record.message]) == 1


def test_running_statistics_and_predictions_are_those_of_vmap(formats):
    torch.manual_seed(0)
    network = ResNet12(NARROW, image_size=16, drop_rate=0.0, batch_norm="running").double()
    found, expected = (PrototypicalNetwork(network, engine=engine)(episode()) for engine in (Engine(), Engine("vmap")))
    torch.testing.assert_close(found.predictions, expected.predictions, rtol=1e-10, atol=1e-10)
    assert found.buffers.keys() == expected.buffers.keys() != set()
    for name, value in expected.buffers.items():
        torch.testing.assert_close(found.buffers[name], value, rtol=1e-10, atol=1e-10)


def test_the_format_that_a_user_chose_for_the_weights_stays(formats):
    last = narrow().to(memory_format=torch.channels_last)
    expected = gradient(MAML, last, engine=Engine("vmap"))
    formats.clear()
    torch.testing.assert_close(gradient(MAML, last), expected, rtol=1e-10, atol=1e-10)
    wide = last.body.blocks[3].path[3].weight
    assert wide.numel() > memory_format.MOST_WEIGHTS
    assert not memory_format.is_free(torch.zeros(2, 10, 4, 4), wide, 1)
