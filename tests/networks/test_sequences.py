"""Recurrent and causal layers: torch's own where it has them, and that nothing sees what comes later."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit.functional.preprocessing import log_and_sign
from metalit.networks.causal import AttentionBlock, CausalLayers, DenseBlock, TCBlock
from metalit.networks.fast_weights import RecurrentWeightGenerator, WeightGenerator
from metalit.networks.lstm_cell import LSTMCell
from metalit.networks.memory_controller import MemoryController

F64 = torch.float64


def make(cls, *args, **settings):
    torch.manual_seed(0)
    return cls(*args, **settings).double()


def normal(*shape, seed=1):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


def torchs(cell, reference, suffix=""):
    """Put the weights of a cell into one of torch's."""
    with torch.no_grad():
        getattr(reference, f"weight_ih{suffix}").copy_(cell.inputs.weight)
        getattr(reference, f"weight_hh{suffix}").copy_(cell.hidden.weight)
        getattr(reference, f"bias_ih{suffix}").copy_(cell.inputs.bias)
        getattr(reference, f"bias_hh{suffix}").zero_()
    return reference


@pytest.mark.parametrize(("inputs", "hidden"), [(1, 1), (3, 5), (4, 2)])
def test_lstm_cell_is_torchs(inputs, hidden):
    cell = make(LSTMCell, inputs, hidden)
    reference = torchs(cell, nn.LSTMCell(inputs, hidden).double())
    x, h, c = normal(6, inputs), normal(6, hidden, seed=2), normal(6, hidden, seed=3)
    torch.testing.assert_close(cell(x, h, c), reference(x, (h, c)), rtol=1e-12, atol=1e-12)


def test_lstm_cell_step_after_step_is_torchs_lstm():
    cell = make(LSTMCell, 3, 4)
    reference = torchs(cell, nn.LSTM(3, 4).double(), "_l0")
    x = normal(5, 2, 3)
    h = c = torch.zeros(2, 4, dtype=F64)
    outputs = []
    for step in x:
        h, c = cell(step, h, c)
        outputs.append(h)
    torch.testing.assert_close(torch.stack(outputs), reference(x)[0], rtol=1e-12, atol=1e-12)


def test_lstm_cell_has_second_derivatives_and_a_rule_for_vmap():
    cell, h, c = make(LSTMCell, 2, 3), normal(4, 3), normal(4, 3, seed=2)
    x = normal(4, 2, seed=3).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda x: cell(x, h, c), (x,))
    one_by_one = torch.func.vmap(lambda *row: cell(*(part[None] for part in row))[0][0])(x, h, c)
    torch.testing.assert_close(one_by_one, cell(x, h, c)[0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dilation", [1, 2, 5])
def test_dense_block_is_a_gated_dilated_convolution(dilation):
    block, x = make(DenseBlock, 3, 2, dilation), normal(7, 3)
    kernel = block.gates.weight.reshape(4, 2, 3).transpose(1, 2)  # [out, in, (before, now)]
    padded = F.pad(x.T[None], (dilation, 0))
    candidate, gate = F.conv1d(padded, kernel, block.gates.bias, dilation=dilation)[0].T.chunk(2, dim=-1)
    expected = torch.cat([x, candidate.tanh() * gate.sigmoid()], dim=-1)
    torch.testing.assert_close(block(x)[0], expected, rtol=1e-12, atol=1e-12)


def test_attention_block_is_torchs_causal_attention():
    block, x = make(AttentionBlock, 4, 3, 5), normal(6, 4)
    parts = (layer(x)[None] for layer in (block.queries, block.keys, block.values))
    expected = F.scaled_dot_product_attention(*parts, is_causal=True)[0]
    torch.testing.assert_close(block(x)[0], torch.cat([x, expected], dim=-1), rtol=1e-12, atol=1e-12)


LAYERS = {
    "dense": lambda: make(DenseBlock, 4, 3, 2),
    "convolutions": lambda: make(TCBlock, 4, 3, 8),
    "attention": lambda: make(AttentionBlock, 4, 3, 5),
}
every_layer = pytest.mark.parametrize("layer", LAYERS)


@every_layer
def test_no_causal_layer_sees_the_future(layer):
    layer, x = LAYERS[layer](), normal(8, 4)
    out, _ = layer(x)
    for t in range(1, 8):
        later = torch.cat([x[:t], 100 * normal(8 - t, 4, seed=t)])
        torch.testing.assert_close(layer(later)[0][:t], out[:t], rtol=0, atol=1e-12)


@every_layer
def test_every_causal_layer_appends_to_its_input(layer):
    layer, x = LAYERS[layer](), normal(8, 4)
    out, memory = layer(x)
    assert torch.equal(out[:, :4], x)
    assert out.shape[1] == getattr(layer, "features", 7)
    assert torch.equal(layer.next_step(x[:3], memory)[:, :4], x[:3])


@every_layer
def test_a_next_step_is_the_last_step_of_a_longer_sequence(layer):
    layer, x, branches = LAYERS[layer](), normal(7, 4), normal(3, 4, seed=2)
    _, memory = layer(x)
    found = layer.next_step(branches, memory)
    for branch, out in zip(branches, found, strict=True):
        expected = layer(torch.cat([x, branch[None]]))[0][-1]
        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "depth"), [(1, 0), (2, 1), (3, 2), (8, 3), (9, 4), (26, 5)])
def test_convolutions_reach_from_the_last_step_to_the_first(length, depth):
    block = make(TCBlock, 2, 3, length)
    assert [dense.dilation for dense in block.blocks] == [2**i for i in range(depth)]
    assert block.features == 2 + 3 * depth
    x = normal(length, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(block(x)[0][-1].sum(), x)
    assert gradient.abs().sum(1).min() > 0


def test_convolutions_reach_no_further_than_their_dilations():
    block, x = make(TCBlock, 2, 3, 4), normal(6, 2).requires_grad_()  # 1 + 1 + 2 steps
    (gradient,) = torch.autograd.grad(block(x)[0][-1].sum(), x)
    assert (gradient.abs().sum(1) > 0).tolist() == [False, False, True, True, True, True]


def test_branches_do_not_see_one_another():
    convolutions = make(TCBlock, 4, 3, 6)
    attention = make(AttentionBlock, convolutions.features, 3, 5)
    layers = make(CausalLayers, [convolutions, attention], 2)
    sequence, branches = normal(5, 4), normal(3, 4, seed=2)
    together = layers(sequence, branches)
    alone = torch.cat([layers(sequence, branch[None]) for branch in branches])
    assert together.shape == (3, 2)
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    again = layers.next_step(branches, layers.read(sequence))
    assert torch.equal(again, together)


def controller(**settings):
    small = {"hidden": 6, "slots": 5, "slot_size": 4, "heads": 2}
    return make(MemoryController, 3, 2, **(small | settings))


def test_memory_controller_sees_no_future_and_branches_each_alone():
    memory, x, branches = controller(), normal(6, 3), normal(4, 3, seed=2)
    state, out = memory(x)
    assert out.shape == (6, 2)
    torch.testing.assert_close(memory(torch.cat([x[:3], 9 * x[3:]]))[1][:3], out[:3], rtol=0, atol=1e-12)
    expected = torch.stack([memory(torch.cat([x, branch[None]]))[1][-1] for branch in branches])
    torch.testing.assert_close(memory.next_step(branches, state), expected, rtol=1e-12, atol=1e-12)


def test_reads_are_means_and_usage_is_a_constant():
    state, _ = controller()(normal(6, 3))
    torch.testing.assert_close(state.reading.sum(-1), torch.ones(2, dtype=F64))
    torch.testing.assert_close(state.read, (state.reading @ state.memory).flatten())
    assert state.usage.min() >= 0
    assert state.memory.requires_grad
    assert not state.usage.requires_grad


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_usage_is_what_was_read_and_written_in_decay(decay):
    """Each of two heads reads 1 in a step; it writes 1, but at first less: where it read last is nowhere."""
    memory, x = controller(usage_decay=decay), normal(2, 3)
    first, _ = memory(x[:1])
    gates = memory.gates(first.hidden).sigmoid()
    used = 2 + (1 - gates).sum().item()
    assert first.usage.sum().item() == pytest.approx(used)
    second, _ = memory(x)
    assert second.usage.sum().item() == pytest.approx(decay * used + 2 + 2)


def test_a_new_controller_has_an_empty_memory():
    state = controller().initial_state()
    assert state.memory.shape == (5, 4)
    assert state.memory.unique().tolist() == [1e-6]
    assert not any(part.any() for part in (state.hidden, state.cell, state.reading, state.read, state.usage))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden": 0}, "hidden is 0"),
        ({"slot_size": 0}, "slot_size is 0"),
        ({"heads": 0}, "heads is 0"),
        ({"slots": 1}, r"slots is 1.*heads \(2\)"),
        ({"usage_decay": 1.5}, "usage_decay is 1.5"),
        ({"usage_decay": float("nan")}, "usage_decay is nan"),
        ({"key_strength": 0.0}, "key_strength is 0"),
    ],
)
def test_impossible_memories_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        controller(**settings)


def test_fast_weights_are_made_coordinate_by_coordinate():
    generate, gradients = make(WeightGenerator, 5), normal(3, 4)
    weights = generate(gradients)
    assert weights.shape == gradients.shape
    torch.testing.assert_close(generate(gradients.flatten()), weights.flatten())
    torch.testing.assert_close(generate(gradients.T), weights.T)


def test_recurrent_fast_weights_are_torchs_lstm_with_a_head():
    generate, gradients = make(RecurrentWeightGenerator, 5), normal(4, 6)
    reference = torchs(generate.lstm, nn.LSTM(2, 5).double(), "_l0")
    expected = generate.head(reference(log_and_sign(gradients, 7.0))[0][-1]).squeeze(-1)
    torch.testing.assert_close(generate(gradients), expected, rtol=1e-12, atol=1e-12)
    assert not torch.allclose(generate(gradients.flip(0)), expected)  # the last gradient counts most


@pytest.mark.parametrize("generator", [WeightGenerator, RecurrentWeightGenerator])
def test_fast_weights_are_small_at_first_however_large_the_gradients(generator):
    weights = make(generator, 20)(1e6 * normal(3, 50))
    assert 0 < weights.abs().max() < 0.3
