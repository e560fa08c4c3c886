"""SNAIL (a re-implementation: eambutu/snail-pytorch at c07c679, src/blocks.py).

https://github.com/eambutu/snail-pytorch/blob/c07c679ea07ae6d5d52548df9ec05229d21f11dd/src/blocks.py
"""

import math

import pytest
import torch
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import SNAIL
from metalit.networks.causal import AttentionBlock, CausalLayers, TCBlock
from metalit.objectives import ContrastiveAdaptation

WAYS, SHOTS, QUERIES, FEATURES = 3, 2, 4, 6
STEPS = WAYS * SHOTS


def make(**settings):
    torch.manual_seed(0)
    small = {"support_size": STEPS, "filters": 5, "attention": [(4, 3), (4, 3)], "features": FEATURES}
    return SNAIL(nn.Identity(), **({"ways": WAYS} | small | settings)).double()


@pytest.fixture
def episode():
    torch.manual_seed(1)
    labels = torch.arange(WAYS).repeat_interleave(SHOTS).expand(2, -1)
    x = torch.randn(2, STEPS + QUERIES, FEATURES, dtype=torch.float64)
    queries = torch.randint(WAYS, (2, QUERIES))
    return Episode(Labelled(x[:, :STEPS], labels), Labelled(x[:, STEPS:], queries), torch.arange(2))


def layers(channels=4, length=8, outputs=2):
    torch.manual_seed(0)
    tc = TCBlock(channels + 3, 5, length)
    return CausalLayers([AttentionBlock(channels, 6, 3), tc, AttentionBlock(tc.features, 6, 3)], outputs).double()


def each_step(x):
    """The output of every step of a sequence: of the sequence itself, layer after layer."""
    stack = layers()
    for layer in stack.layers:
        x, _ = layer(x)
    return stack.head(x)


def test_what_comes_later_changes_nothing():
    x = torch.randn(8, 4, dtype=torch.float64)
    whole = each_step(x)
    for t in range(1, 8):
        changed = torch.cat([x[:t], torch.randn(8 - t, 4, dtype=torch.float64)])
        outputs = each_step(changed)
        torch.testing.assert_close(outputs[:t], whole[:t], rtol=0, atol=1e-12)
        assert not torch.allclose(outputs[t:], whole[t:])


def test_the_last_step_sees_every_other_by_convolutions_alone():
    """Its receptive field is the whole sequence, and not for its length but for one more dense block at 2^i + 1."""
    assert [len(TCBlock(4, 5, length).blocks) for length in (2, 3, 4, 5, 6, 9, 26)] == [1, 2, 2, 3, 3, 4, 5]
    torch.manual_seed(0)
    block = TCBlock(4, 5, 6).double()
    x = torch.randn(6, 4, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(block(x)[0][-1, 4:].square().sum(), x)
    assert (slope.abs().sum(dim=1) > 0).all()


def test_each_query_is_a_last_step_by_itself():
    """All queries at once give what each gives at the end of a sequence of its own."""
    past, queries = torch.randn(7, 4, dtype=torch.float64), torch.randn(3, 4, dtype=torch.float64)
    at_once = layers()(past, queries)
    for query, found in zip(queries, at_once, strict=True):
        alone = each_step(torch.cat([past, query.unsqueeze(0)]))
        torch.testing.assert_close(found, alone[-1], rtol=0, atol=1e-12)


def test_attention_is_a_mean_over_the_past():
    """Rows sum to one: the softmax is over keys. (In the re-implementation it is over queries.)"""
    torch.manual_seed(0)
    block = AttentionBlock(4, 6, 3).double()
    x = torch.randn(7, 4, dtype=torch.float64)
    outputs, memory = block(x[:6])
    for t in range(6):
        scores = block.queries(x[t]) @ block.keys(x[: t + 1]).T / math.sqrt(6)
        torch.testing.assert_close(outputs[t, 4:], scores.softmax(0) @ block.values(x[: t + 1]))
    scores = block.queries(x[6]) @ block.keys(x).T / math.sqrt(6)
    torch.testing.assert_close(block.next_step(x[6:], memory)[0, 4:], scores.softmax(0) @ block.values(x))


def test_queries_do_not_see_one_another(episode):
    learner = make().eval()
    whole = learner(episode).predictions
    changed = torch.cat([episode.query.x[:, :1], torch.randn_like(episode.query.x[:, 1:])], dim=1)
    other = learner(episode._replace(query=Labelled(changed, episode.query.y))).predictions
    torch.testing.assert_close(other[:, 0], whole[:, 0], rtol=0, atol=1e-12)


def test_the_order_is_drawn_in_training_and_fixed_in_evaluation(episode):
    learner, later = make(), episode._replace(index=episode.index + 2)
    assert not torch.allclose(learner(episode).predictions, learner(later).predictions)
    learner.eval()
    assert torch.equal(learner(episode).predictions, learner(later).predictions)


def test_fewer_shots_than_the_convolutions_reach(episode):
    few = Labelled(episode.support.x[:, ::SHOTS], episode.support.y[:, ::SHOTS])
    assert make().eval()(episode._replace(support=few)).predictions.shape == (2, QUERIES, WAYS)


def regression(episode):
    return Episode(*(Labelled(part.x, part.x[..., :2]) for part in episode[:2]), episode.index)


def test_regression(episode):
    outcome = make(ways=None, outputs=2).eval()(regression(episode))
    assert outcome.predictions.shape == (2, QUERIES, 2)


def test_tasks_of_another_kind_are_refused(episode):
    with pytest.raises(ValueError, match=r"ways is 4"):
        make(ways=4)(episode)
    with pytest.raises(ValueError, match="ways is None, expected 3"):
        make(ways=None)(episode)
    with pytest.raises(ValueError, match="ways is 3"):
        make()(regression(episode))
    with pytest.raises(ValueError, match="outputs is 1"):
        make(ways=None)(regression(episode))
    with pytest.raises(ValueError, match="support_size is 5, expected at least 6"):
        make(support_size=5)(episode)


@pytest.mark.parametrize(
    "settings",
    [{"ways": 0}, {"outputs": 0}, {"support_size": 0}, {"filters": 0}, {"attention": []}, {"attention": [(4, 0)]},
     {"features": 0}],
)  # fmt: skip
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        make(**settings)


def test_what_cannot_be_known_or_used_is_said():
    with pytest.raises(ValueError, match="Identity does not say how long its embedding is"):
        make(features=None)
    with pytest.raises(ValueError, match="ContrastiveAdaptation uses adapted parameters, and a memory-based"):
        make(objective=ContrastiveAdaptation())
