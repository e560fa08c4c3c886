"""Batch norms by their mode, and norms of their own for each inner step."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit.networks import Conv4, batch_norm_2d, batch_norm_mode
from metalit.networks.normalisation import use_running_statistics
from metalit.networks.per_step_norms import PerStepNorms

F64 = torch.float64


def maps():
    return torch.randn(6, 3, 2, 2, dtype=F64, generator=torch.Generator().manual_seed(1)) * 2 + 1


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("mode", ["batch", None])
def test_statistics_of_the_batch_in_training_and_evaluation(mode, training):
    layer = batch_norm_2d(3, mode).double().train(training)
    torch.testing.assert_close(layer(maps()), F.batch_norm(maps(), None, None, training=True))


def test_running_statistics_are_accumulated_in_training_and_used_in_evaluation():
    layer = batch_norm_2d(3, "running").double()
    torch.testing.assert_close(layer(maps()), F.batch_norm(maps(), None, None, training=True))
    mean, variance = 0.1 * maps().mean((0, 2, 3)), 0.9 + 0.1 * maps().var((0, 2, 3))
    torch.testing.assert_close(layer.eval()(maps()), F.batch_norm(maps(), mean, variance))


def test_no_norm_leaves_maps_as_they_are():
    assert torch.equal(batch_norm_2d(3, "none")(maps()), maps())


def test_the_method_decides_only_where_the_network_does_not():
    left, asked = Conv4(channels=2), Conv4(channels=2, batch_norm="batch")
    for network in (left, asked):
        use_running_statistics(network)
        use_running_statistics(network)  # again changes nothing
    assert batch_norm_mode(left) == "running"
    assert batch_norm_mode(asked) == "batch"
    assert batch_norm_mode(left, asked) == "mixed"
    expected = Conv4(channels=2, batch_norm="running").state_dict()
    assert {key: value.shape for key, value in left.state_dict().items()} == {
        key: value.shape for key, value in expected.items()
    }
    assert all(torch.equal(value, expected[key]) for key, value in left.state_dict().items() if "running" in key)


def test_a_norm_that_was_told_to_keep_statistics_keeps_them_as_torchs_does():
    layer, reference = batch_norm_2d(3, None), nn.BatchNorm2d(3)
    use_running_statistics(layer)
    for _ in range(2):
        torch.testing.assert_close(layer(maps().float()), reference(maps().float()))
    torch.testing.assert_close(layer.state_dict(), reference.state_dict())
    torch.testing.assert_close(layer.eval()(maps().float()), reference.eval()(maps().float()))


def network(track=True):
    return nn.Sequential(
        nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Sequential(nn.BatchNorm1d(3, track_running_stats=track))
    )


def test_every_step_has_a_copy_of_every_norm():
    norms = PerStepNorms(network(), steps=2)
    assert norms.parameter_names == ["1.weight", "1.bias", "2.0.weight", "2.0.bias"]
    assert len(norms.copies) == 2
    tensors = {**dict(norms.named_parameters()), **dict(norms.named_buffers())}
    assert norms.after(0, tensors) == {}
    first, last, beyond = (norms.after(steps, tensors) for steps in (1, 2, 9))
    members = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    assert set(first) == {f"{norm}.{member}" for norm in ("1", "2.0") for member in members}
    assert first["2.0.weight"] is norms.copies[0]["2/0"].weight
    assert last["2.0.weight"] is norms.copies[1]["2/0"].weight
    assert first["1.weight"] is not last["1.weight"]
    assert all(beyond[name] is last[name] for name in last)


def test_copies_begin_as_the_networks_norms_and_run_in_it():
    torch.manual_seed(0)
    body = network(track=False)
    nn.init.normal_(body[1].weight)
    norms = PerStepNorms(body, steps=1)
    tensors = norms.after(1, dict(norms.named_parameters()))
    assert "2.0.running_mean" not in tensors
    x = torch.randn(5, 3)
    same = torch.func.functional_call(body, tensors, (x,))
    torch.testing.assert_close(same, body(x))
    with torch.no_grad():
        norms.copies[0]["2/0"].weight.mul_(2)
    torch.testing.assert_close(torch.func.functional_call(body, tensors, (x,)), 2 * body(x))


@pytest.mark.parametrize(("body", "steps"), [(network(), 0), (nn.Linear(2, 2), 3)])
def test_without_norms_or_steps_there_is_nothing(body, steps):
    norms = PerStepNorms(body, steps)
    assert norms.parameter_names == []
    assert list(norms.parameters()) == []
