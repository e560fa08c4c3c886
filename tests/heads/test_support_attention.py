"""Attention over the support examples, with and without full-context embeddings."""

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, double, meta_gradient
from cases import DOMAINS, cancelled
from metalit import Engine, Episode, Labelled
from metalit.algorithms import MatchingNetwork, PrototypicalNetwork
from metalit.heads import Cosine, FullContext, SquaredEuclidean, SupportAttention
from metalit.tasks import TaskContext

F64 = torch.float64


@pytest.fixture
def task():
    torch.manual_seed(0)
    return Labelled(torch.randn(6, 4, dtype=F64), torch.arange(3).repeat(2)), torch.randn(5, 4, dtype=F64)


def test_probabilities_are_sums_of_attention(task):
    support, query = task
    logits = SupportAttention(Cosine(3.0))(support, query, 3)
    cosines = nn.functional.cosine_similarity(query[:, None], support.x[None], dim=-1)
    attention = (3 * cosines).softmax(dim=-1)
    by_hand = torch.stack([attention[:, support.y == k].sum(dim=-1) for k in range(3)], dim=-1)
    torch.testing.assert_close(logits.exp(), by_hand)


def test_with_one_shot_and_squared_distances_it_is_a_prototypical_network():
    torch.manual_seed(0)
    x, y = torch.randn(2, 3, 4, 6, dtype=F64), torch.arange(4).expand(3, -1)
    episode = Episode(Labelled(x[0], y), Labelled(x[1], y), torch.arange(3))
    matching, prototypes = (
        MatchingNetwork(nn.Identity(), SquaredEuclidean()),
        PrototypicalNetwork(nn.Identity()),
    )
    torch.testing.assert_close(matching(episode).loss, prototypes(episode).loss)
    torch.testing.assert_close(matching(episode).predictions, prototypes(episode).predictions.log_softmax(dim=-1))


def test_distant_examples_do_not_underflow():
    support = Labelled(torch.tensor([[0.0], [100.0]]), torch.tensor([0, 1]))
    query = torch.tensor([[0.0], [100.0]], requires_grad=True)
    logits = SupportAttention(SquaredEuclidean())(support, query, 2)
    torch.testing.assert_close(logits, torch.tensor([[0.0, -1e4], [-1e4, 0.0]]))
    (gradient,) = torch.autograd.grad(logits[:, 0].sum(), query)
    assert gradient.isfinite().all()


def full_context(engine, **settings):
    torch.manual_seed(0)
    head = FullContext(8, steps=2)
    network = DOMAINS["glyphs"].networks["embedding"]()
    return MatchingNetwork(network, full_context=head, engine=engine, **settings).double()


@pytest.mark.parametrize(
    "engine",
    [Engine("vmap"), pytest.param(Engine(compile=True, compile_backend="aot_eager"), marks=pytest.mark.slow)],
    ids=["vmap", "compiled"],
)
def test_full_context_in_every_engine(engine):
    expected = meta_gradient(full_context(Engine("loop")), double("glyphs"))
    assert_same_gradient(meta_gradient(full_context(engine), double("glyphs")), expected)
    idle = cancelled(full_context(engine))
    assert all(gradient.any() for name, gradient in expected[1].items() if name not in idle)


def test_full_context_by_torch(task):
    """Support examples by nn.LSTM in both directions, with the same weights and in the order drawn."""
    support, query = task
    torch.manual_seed(0)
    context = FullContext(4, steps=1).double()
    reference = nn.LSTM(4, 4, bidirectional=True).double()
    for cell, suffix in ((context.there, "l0"), (context.back, "l0_reverse")):
        getattr(reference, f"weight_ih_{suffix}").data = cell.inputs.weight.data
        getattr(reference, f"weight_hh_{suffix}").data = cell.hidden.weight.data
        getattr(reference, f"bias_ih_{suffix}").data = cell.inputs.bias.data
        getattr(reference, f"bias_hh_{suffix}").data.zero_()
    numbered = Labelled(support.x, torch.arange(6))
    with TaskContext(torch.tensor(3), {}):
        found, read = context(numbered, query)
    assert found.y.tolist() != sorted(found.y.tolist())
    shuffled = support.x[found.y]
    forward, backward = reference(shuffled.unsqueeze(1))[0].squeeze(1).chunk(2, dim=-1)
    torch.testing.assert_close(found.x, shuffled + forward + backward)
    zeros = torch.zeros_like(query)
    seen = found.x.mean(dim=0).expand(query.shape)  # the one look, without a preference yet
    out, _ = context.reader(torch.cat([query, seen], dim=-1), zeros, zeros)
    torch.testing.assert_close(read, out + query)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_full_context_looks_at_the_support_set_as_often_as_it_says(steps, task):
    """Equations 3 to 6 of the paper, written out."""
    _, query = task
    torch.manual_seed(0)
    context, support = FullContext(4, steps=steps).double(), torch.randn(6, 4).double()
    hidden, cell = torch.zeros_like(query), torch.zeros_like(query)
    for _ in range(steps):
        attention = torch.softmax(hidden @ support.T, dim=-1)
        read = attention @ support
        out, cell = context.reader(torch.cat([query, read], dim=-1), hidden, cell)
        hidden = out + query
    found = context.embed_queries(support, query)
    torch.testing.assert_close(found, hidden)
    moved = context.embed_queries(support + 1, query)
    assert not torch.allclose(found, moved)  # it depends on the support set, by one look too


@pytest.mark.parametrize("settings", [{"features": 0}, {"features": 4, "steps": 0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match="expected at least 1"):
        FullContext(**settings)
