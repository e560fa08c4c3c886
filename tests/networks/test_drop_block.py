"""DropBlock: which values it drops, how many, and by whose random numbers."""

import pytest
import torch
from torch import nn
from torch.func import vmap

from metalit.networks import DropBlock
from metalit.tasks import TaskContext

F64 = torch.float64


def within(key, layer, x):
    """The layer's output in a task with a key."""
    with TaskContext(torch.as_tensor(key), {}):
        return layer(x)


def dropped(rate, size, shape, key=5):
    return within(key, DropBlock(rate, size), torch.ones(shape, dtype=F64)) == 0


def covering(length, size):
    """How many of the places of a square cover each of the positions along one axis."""
    return torch.tensor([min(i, length - size) - max(i - size + 1, 0) + 1 for i in range(length)])


@pytest.mark.parametrize(
    ("size", "height", "width"), [(1, 6, 6), (3, 9, 9), (5, 10, 10), (2, 4, 7), (5, 5, 5), (7, 4, 6)]
)
def test_share_of_each_position_is_the_papers(size, height, width):
    """A value is kept if none of the squares that cover it is chosen: probability (1 - gamma)^squares."""
    rate, maps = 0.2, 20_000
    found = (~dropped(rate, size, (maps, 1, height, width))).double().mean((0, 1))
    high, wide = min(size, height), min(size, width)
    gamma = rate / (high * wide) * height * width / ((height - high + 1) * (width - wide + 1))
    expected = (1 - gamma) ** (covering(height, high)[:, None] * covering(width, wide))
    assert (found - expected).abs().max() < 5 * (0.25 / maps) ** 0.5
    assert found.mean() > 1 - rate - 0.01  # squares may overlap, so no more than the rate is dropped


def test_what_is_dropped_are_whole_squares_within_the_map():
    size = 3
    masks = dropped(0.05, size, (400, 2, 8, 8)).flatten(0, 1)
    assert 0 < masks.flatten(1).any(1).double().mean() < 1
    kernel = torch.ones(1, 1, size, size, dtype=F64)
    full = nn.functional.conv2d(masks[:, None].double(), kernel) == size**2  # squares that are dropped as a whole
    rebuilt = nn.functional.conv_transpose2d(full.double(), kernel)[:, 0] > 0
    assert torch.equal(rebuilt, masks)
    assert (masks.flatten(1).sum(1) == size**2).any()  # a single one


def test_channels_and_examples_have_squares_of_their_own():
    masks = dropped(0.3, 2, (8, 8, 8, 8)).flatten(0, 1).flatten(1)
    assert len(masks.unique(dim=0)) == 64


@pytest.mark.parametrize("size", [1, 3])
def test_the_mean_of_ones_stays_one(size):
    out = within(3, DropBlock(0.4, size), torch.ones(3, 4, 6, 6, dtype=F64))
    assert out.mean().item() == pytest.approx(1, abs=1e-12)
    assert len(out.unique()) == 2


def test_in_half_precision_the_mean_stays_one_too():
    out = within(3, DropBlock(0.3, 2), torch.ones(64, 64, 8, 8, dtype=torch.bfloat16))
    assert out.dtype == torch.bfloat16
    assert out.float().mean().item() == pytest.approx(1, abs=0.004)  # the scale itself has 8 bits


def test_a_map_without_remaining_values_is_zero():
    out = within(0, DropBlock(0.999999, 4), torch.ones(1, 1, 2, 2, dtype=F64))
    assert torch.equal(out, torch.zeros_like(out))


def test_evaluation_and_rate_zero_change_nothing():
    x = torch.randn(2, 3, 5, 5)
    assert DropBlock(0.5, 2).eval()(x) is x
    assert DropBlock(0.0, 2)(x) is x


def test_a_task_draws_by_its_key_under_vmap_too():
    layer, keys, x = DropBlock(0.3, 2), torch.tensor([7, 8, 9]), torch.randn(3, 4, 2, 6, 6, dtype=F64)
    looped = torch.stack([within(key, layer, each) for key, each in zip(keys, x, strict=True)])
    torch.manual_seed(1)  # nothing is drawn from torch's generator
    mapped = vmap(lambda key, each: within(key, layer, each))(keys, x)
    torch.testing.assert_close(mapped, looped, rtol=1e-12, atol=0)
    assert not torch.equal((looped[0] == 0), (looped[1] == 0))


def test_outside_of_a_task_torchs_generator_is_used():
    layer, x = DropBlock(0.3, 2), torch.ones(4, 4, 6, 6)
    torch.manual_seed(0)
    first, second = layer(x), layer(x)
    torch.manual_seed(0)
    assert torch.equal(layer(x), first)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("settings", [{"drop_rate": 1.0}, {"drop_rate": -0.1}, {"block_size": 0}])
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        DropBlock(**settings)
