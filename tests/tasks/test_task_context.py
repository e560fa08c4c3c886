"""A task context changes how PyTorch functions compute, never what: torch itself is the reference."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import grad, vmap

from metalit.tasks import TaskContext
from metalit.tasks.random_bits import MASK32, hash32


def context(key=1, **buffers):
    return TaskContext(torch.tensor(key), buffers)


LAYERS = {
    "batch_norm_1d": (lambda: nn.BatchNorm1d(4, track_running_stats=False), (6, 4)),
    "batch_norm_2d": (lambda: nn.BatchNorm2d(4, track_running_stats=False), (6, 4, 3, 3)),
    "batch_norm_3d": (lambda: nn.BatchNorm3d(4, track_running_stats=False), (6, 4, 2, 3, 3)),
    "batch_norm_without_affine": (
        lambda: nn.BatchNorm2d(4, track_running_stats=False, affine=False),
        (6, 4, 3, 3),
    ),
    "batch_norm_evaluating": (lambda: nn.BatchNorm2d(4).eval(), (6, 4, 3, 3)),
    "instance_norm": (lambda: nn.InstanceNorm2d(4, affine=True), (6, 4, 3, 3)),
    "instance_norm_evaluating": (lambda: nn.InstanceNorm2d(4, track_running_stats=True).eval(), (6, 4, 3, 3)),
    "layer_norm": (lambda: nn.LayerNorm((3, 4)), (6, 3, 4)),
    "layer_norm_without_bias": (lambda: nn.LayerNorm(4, bias=False), (6, 3, 4)),
    "dropout_evaluating": (lambda: nn.Dropout(0.5).eval(), (6, 4)),
    "dropout_at_zero": (lambda: nn.Dropout(0.0), (6, 4)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_compute_what_torch_computes(name):
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make().double(), torch.randn(shape, dtype=torch.float64)
    for tensor in [*layer.parameters(), *(b for b in layer.buffers() if b.is_floating_point())]:
        tensor.data.uniform_(0.5, 1.5)
    expected = layer(x)
    with context():
        torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.BatchNorm2d(4, momentum=0.3), (6, 4, 3, 3)),
        (nn.InstanceNorm2d(4, track_running_stats=True), (6, 4, 3, 3)),
    ],
    ids=["batch_norm", "instance_norm"],
)
def test_running_statistics_are_returned_and_not_written(layer, shape):
    layer = layer.double().train()
    x = torch.randn(shape, dtype=torch.float64)
    buffers = dict(layer.named_buffers())
    before = {name: buffer.clone() for name, buffer in buffers.items()}
    with context(**buffers) as running:
        inside = layer(x)
    assert all(torch.equal(buffers[name], before[name]) for name in buffers)
    torch.testing.assert_close(inside, layer(x), rtol=1e-12, atol=1e-12)
    for name in ("running_mean", "running_var"):  # layer(x) has now written them
        torch.testing.assert_close(running.updates[name], buffers[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("make", [nn.BatchNorm2d, partial(nn.InstanceNorm2d, track_running_stats=True)])
def test_running_statistics_of_half_precision_keep_their_digits(make, half):
    layer, x = make(4), torch.randn(6, 4, 30, 30).to(half)
    with context(**dict(layer.named_buffers())) as running:
        layer(x)
    updated = running.updates["running_mean"]
    assert updated.dtype == torch.float32
    torch.testing.assert_close(updated, 0.1 * x.float().mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-6)


def test_an_unknown_running_statistic_is_an_error():
    with context(), pytest.raises(AssertionError, match="none of the learner's buffers"):
        nn.BatchNorm2d(4)(torch.randn(6, 4, 3, 3))


def test_other_in_place_additions_still_happen():
    x = torch.zeros(2)
    with context(count=torch.tensor(0)):
        x.add_(1)
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_the_right_share_and_the_mean(p):
    with context():
        kept = F.dropout(torch.ones(200_000), p)
    share = (kept > 0).double().mean().item()
    assert share == pytest.approx(1 - p, abs=5 * (p * (1 - p) / 200_000) ** 0.5)
    assert kept.max().item() == pytest.approx(1 / (1 - p))


def test_dropping_everything_leaves_zeros():
    with context():
        assert F.dropout(torch.ones(10), 1.0).tolist() == [0.0] * 10


def test_dropout_masks_are_new_at_each_call_and_for_each_key_and_repeat_with_it():
    x = torch.ones(1000)
    with context(7):
        first, second = F.dropout(x), F.dropout(x)
    with context(7):
        again = F.dropout(x)
    with context(8):
        other = F.dropout(x)
    with context(7 + 2**32):
        of_another_seed = F.dropout(x)
    assert torch.equal(first, again)
    for mask in (second, other, of_another_seed):
        agreement = (first == mask).double().mean().item()
        assert agreement == pytest.approx(0.5, abs=0.08)  # independent masks agree half of the time


def test_channel_dropout_drops_whole_channels():
    with context():
        kept = F.dropout2d(torch.ones(50, 8, 3, 3), 0.5).flatten(2)
    assert (kept.min(dim=2).values == kept.max(dim=2).values).all()
    assert 0.3 < (kept[..., 0] > 0).double().mean() < 0.7


def test_hash_stays_in_32_bits_and_collides_with_nothing():
    hashed = hash32(torch.arange(1_000_000))
    assert hashed.min() >= 0
    assert hashed.max() <= MASK32
    assert len(hashed.unique()) == 1_000_000  # it is a bijection of 32-bit integers


def test_hash_bits_are_fair():
    hashed = hash32(torch.arange(100_000))
    for bit in range(32):
        assert ((hashed >> bit) & 1).double().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("run", "inside"),
    [
        (lambda call: call(torch.ones(4)), True),
        (lambda call: grad(lambda w: call(w).sum())(torch.ones(4)), True),
        (
            lambda call: grad(lambda v: grad(lambda w: call(w).sum())(v).sum())(torch.ones(4)),
            False,
        ),
        (lambda call: vmap(call)(torch.ones(2, 4)), False),
        (lambda call: vmap(grad(lambda w: call(w).sum()))(torch.ones(2, 4)), False),
        (lambda call: call(torch.ones(4, dtype=torch.float64)), False),
    ],
    ids=["plain", "gradient", "inner gradient", "vmap", "gradient in vmap", "another type"],
)
def test_batch_norm_keeps_its_affine_part_where_the_kernel_is_right(run, inside, monkeypatch):
    x, seen = torch.randn(6, 4, 3, 3), []
    kernel = torch.nn.functional.batch_norm

    def call(weight):
        task = TaskContext(torch.zeros((), dtype=torch.int64), {})
        return task.batch_norm(x, None, None, weight, None, training=True)

    def watched(input, mean, variance, weight=None, bias=None, **options):
        seen.append(weight is not None)
        return kernel(input, mean, variance, weight, bias, **options)

    monkeypatch.setattr("torch.nn.functional.batch_norm", watched)
    run(call)
    assert seen == [inside]
