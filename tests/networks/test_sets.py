"""Networks of sets: torch's attention, and what the order of the members, or a mask, may change."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit.networks import AttentiveProcess, ConditionalProcess, RelationEncoder
from metalit.networks.conditional_process import bounded_gaussian, masked_mean
from metalit.networks.cosine_layer import CosineLayer
from metalit.networks.embedding_length import embedding_length
from metalit.networks.set_attention import SetAttention

F64 = torch.float64


def make(cls, *args, **settings):
    torch.manual_seed(0)
    return cls(*args, **settings).double()


def normal(*shape, seed=1):
    return torch.randn(*shape, dtype=F64, generator=torch.Generator().manual_seed(seed))


ORDER = torch.tensor([3, 0, 4, 1, 2])
MASK = torch.tensor([[0, 1, 1, 0, 0], [1, 1, 0, 0, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 0], [1, 0, 1, 0, 1]]).bool()


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_set_attention_is_torchs(mask, heads):
    layer, x = make(SetAttention, 4, heads).eval(), normal(5, 4)
    parts = (part(x).reshape(5, heads, 4).transpose(0, 1) for part in (layer.queries, layer.keys, layer.values))
    read = F.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(0, 1).flatten(1)
    expected = F.layer_norm(x + layer.out(read), (4,))
    torch.testing.assert_close(layer(x, mask), expected, rtol=1e-12, atol=1e-12)


def test_a_mask_hides_members():
    layer, x = make(SetAttention, 4, 2).eval(), normal(5, 4)
    changed = x.clone()
    changed[1] += 1
    out, after = layer(x, MASK), layer(changed, MASK)
    seen = (out != after).any(1).tolist()
    assert seen == [True, True, True, False, False]  # those whose row of the mask looks at member 1


def test_dropped_is_what_is_read_and_only_in_training():
    layer, x = make(SetAttention, 4, dropout=0.9), normal(5, 4)
    assert not torch.allclose(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


SETS = {
    "attention": lambda: make(SetAttention, 4, 2).eval(),
    "relations": lambda: make(RelationEncoder, 4, 3),
}


@pytest.mark.parametrize("network", SETS)
def test_members_in_another_order_are_encoded_the_same(network):
    network, x = SETS[network](), normal(5, 4)
    torch.testing.assert_close(network(x[ORDER]), network(x)[ORDER], rtol=1e-12, atol=1e-12)


def test_relation_encoder_written_out():
    network, x = make(RelationEncoder, 4, 3), normal(5, 4)
    codes = x @ network.linear.weight.T
    expected = torch.stack(
        [torch.stack([network.relation(torch.cat([one, other])) for other in codes]).mean(0) for one in codes]
    )
    assert network(x).shape == (5, 6)
    torch.testing.assert_close(network(x), expected, rtol=1e-12, atol=1e-12)


def test_relation_encoder_has_no_bias_and_so_is_homogeneous():
    network, x = make(RelationEncoder, 4, 3), normal(5, 4)
    assert all(name.endswith("weight") for name, _ in network.named_parameters())
    torch.testing.assert_close(network(2.5 * x), 2.5 * network(x), rtol=1e-12, atol=1e-12)


def test_relation_encoder_drops_features_in_training_only():
    network, x = make(RelationEncoder, 4, 3, dropout=0.5), normal(5, 4)
    assert not torch.allclose(network(x), network(x))
    assert torch.equal(network.eval()(x), network(x))


INPUTS, OUTPUTS, COUNTS = 2, 3, torch.tensor([1.0, 0, 1, 1, 0], dtype=F64)


def conditional():
    return make(ConditionalProcess, INPUTS, OUTPUTS, hidden=8)


def attentive(at=None):
    """The same call as a conditional process has, with two latent variables given."""
    predictor, latent = (
        make(AttentiveProcess, INPUTS, OUTPUTS, hidden=8, heads=2).predictor,
        normal(2, 8, seed=9),
    )
    return lambda x, y, counts, at: predictor(x, y, counts, latent, at)


processes = pytest.mark.parametrize("process", [conditional, attentive])


def points():
    return normal(5, INPUTS), normal(5, OUTPUTS, seed=2), normal(4, INPUTS, seed=3)


@processes
def test_the_order_of_the_context_changes_no_prediction(process):
    (x, y, at), process = points(), process()
    found, expected = process(x[ORDER], y[ORDER], COUNTS[ORDER], at), process(x, y, COUNTS, at)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@processes
def test_points_that_do_not_count_change_nothing(process):
    (x, y, at), process = points(), process()
    there = COUNTS == 1
    expected = process(x[there], y[there], COUNTS[there], at)
    torch.testing.assert_close(process(x, y, COUNTS, at), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        process(x, torch.where(there[:, None], y, 100.0), COUNTS, at), expected, rtol=1e-12, atol=1e-12
    )


@processes
def test_inputs_do_not_see_one_another(process):
    (x, y, at), process = points(), process()
    mean, log_std = process(x, y, COUNTS, at)
    assert mean.shape[-2:] == log_std.shape[-2:] == (4, OUTPUTS)
    alone = process(x, y, COUNTS, at[2:3])
    torch.testing.assert_close((mean[..., 2:3, :], log_std[..., 2:3, :]), alone, rtol=1e-12, atol=1e-12)


def test_the_latent_variable_is_of_the_whole_set():
    (x, y, _), encoder = points(), make(AttentiveProcess, INPUTS, OUTPUTS, hidden=8, heads=2).latent
    mean, log_std = encoder(x, y, COUNTS)
    assert mean.shape == log_std.shape == (8,)
    assert 0.1 < log_std.exp().min() < log_std.exp().max() < 1
    torch.testing.assert_close(encoder(x[ORDER], y[ORDER], COUNTS[ORDER]), (mean, log_std))


def test_a_context_of_one_point_is_seen_from_everywhere_alike():
    """The softmax over one point is 1, wherever an input lies."""
    predictor, (x, y, _) = make(AttentiveProcess, INPUTS, OUTPUTS, hidden=8, heads=4).predictor, points()
    places, codes, counts = predictor.encode(x[:1], y[:1], torch.ones(1, dtype=F64))
    seen = predictor.attend(normal(6, 8), places, codes, counts)
    torch.testing.assert_close(seen, predictor.join(predictor.value(codes)).expand(6, -1))


def test_means_are_of_what_counts():
    codes = normal(5, 3)
    torch.testing.assert_close(masked_mean(codes, COUNTS), codes[COUNTS == 1].mean(0))
    torch.testing.assert_close(masked_mean(codes[:1], torch.ones(1, dtype=F64)), codes[0])


def test_a_predicted_deviation_is_above_a_tenth():
    mean, log_std = bounded_gaussian(torch.tensor([[2.0, -60.0], [3.0, 0.0]], dtype=F64))
    assert mean.tolist() == [[2.0], [3.0]]
    torch.testing.assert_close(log_std.exp()[:, 0], torch.tensor([0.1, 0.1 + 0.9 * 0.6931471805599453], dtype=F64))


def test_cosine_layer_is_torchs_cosine():
    layer, x = make(CosineLayer, 4, 3, scale=5.0), normal(6, 4)
    expected = 5 * F.cosine_similarity(x[:, None], layer.weight[None], dim=-1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)


def test_the_length_of_an_input_or_a_direction_has_no_say():
    layer, x = make(CosineLayer, 4, 3), normal(6, 4)
    logits = layer(x)
    torch.testing.assert_close(layer(1e3 * x), logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(layer(-x), -logits, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([[0.1], [7.0], [30.0]]))
    torch.testing.assert_close(layer(x), logits, rtol=1e-12, atol=1e-12)
    assert logits.abs().max() <= layer.scale
    torch.testing.assert_close(layer(layer.weight).diagonal(), torch.full((3,), 2.0, dtype=F64))


def test_a_vector_of_zeros_has_no_direction_but_a_gradient():
    x = torch.zeros(1, 4, dtype=F64, requires_grad=True)
    logits = make(CosineLayer, 4, 3)(x)
    assert logits.tolist() == [[0, 0, 0]]
    assert torch.autograd.grad(logits.sum(), x)[0].isfinite().all()


def test_the_length_given_wins_over_that_of_the_network():
    network = nn.Flatten()
    network.features = 7
    assert embedding_length(network, None, "Baseline") == 7
    assert embedding_length(network, 3, "Baseline") == 3
    with pytest.raises(ValueError, match="features is 0"):
        embedding_length(network, 0, "Baseline")
    with pytest.raises(ValueError, match=r"Flatten.*Baseline\(features"):
        embedding_length(nn.Flatten(), None, "Baseline")


@pytest.mark.parametrize(
    ("network", "settings", "message"),
    [
        (SetAttention, {"features": 0}, "features is 0"),
        (SetAttention, {"features": 2, "heads": 0}, "heads is 0"),
        (SetAttention, {"features": 2, "dropout": 1.0}, "dropout is 1"),
        (RelationEncoder, {"features": 0, "latents": 2}, "features is 0"),
        (RelationEncoder, {"features": 2, "latents": 0}, "latents is 0"),
        (RelationEncoder, {"features": 2, "latents": 2, "dropout": -0.1}, "dropout is -0.1"),
        (ConditionalProcess, {"encoder_layers": 0}, "encoder_layers is 0"),
        (ConditionalProcess, {"decoder_layers": 0}, "decoder_layers is 0"),
        (ConditionalProcess, {"outputs": 0}, "is 0"),
        (AttentiveProcess, {"heads": 0}, "heads is 0"),
        (AttentiveProcess, {"hidden": 10, "heads": 4}, "hidden is 10.*4"),
        (AttentiveProcess, {"encoder_layers": 0}, "encoder_layers is 0"),
        (CosineLayer, {"features": 0, "classes": 2}, "features is 0"),
        (CosineLayer, {"features": 2, "classes": 0}, "classes is 0"),
        (CosineLayer, {"features": 2, "classes": 2, "scale": 0.0}, "scale is 0"),
    ],
)
def test_impossible_settings_are_refused(network, settings, message):
    with pytest.raises(ValueError, match=message):
        network(**settings)
