"""The contrastive probe: its pairs, fine-tuning with torch's Adam written out, what it is without, and one shot."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit import Engine, Episode, Labelled
from metalit.algorithms import ContrastiveProbe, LogisticProbe
from metalit.episode import Tokens
from metalit.functional.pairs import contrastive_pairs
from metalit.heads import LogisticRegression
from metalit.networks import LoRA, TextTransformer

pytestmark = pytest.mark.algorithms("ContrastiveProbe")
F64 = torch.float64


def task(ways=3, shots=4):
    torch.manual_seed(0)
    y = torch.arange(ways).repeat(shots)
    return Labelled(torch.randn(len(y), 16, dtype=F64), y), torch.randn(5, 16, dtype=F64)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 6)).double()


@pytest.mark.parametrize("labels", [[0, 1, 2] * 4, [0, 0, 0, 0, 1, 2, 2], [2, 1, 0, 1]])
def test_half_of_the_pairs_of_each_class_are_alike(labels):
    y = torch.tensor(labels)
    torch.manual_seed(0)
    first, second, target = contrastive_pairs(y, 3, torch.rand(2 * 50 * 3, 2, len(y)))
    assert torch.equal(target, (y[first] == y[second]).float())
    for k in range(3):
        of_class = y[first] == k
        assert of_class.sum() == 100
        assert target[of_class].sum() == 50
        alike, others = (of_class & (target == value) for value in (1, 0))
        members, strangers = set((y == k).nonzero().flatten().tolist()), set((y != k).nonzero().flatten().tolist())
        assert set(first[of_class].tolist()) == members  # every example comes up
        assert set(second[others].tolist()) == strangers
        if len(members) > 1:
            assert (first != second)[alike].all()
            assert set(second[alike].tolist()) == members
        else:
            assert (first == second)[alike].all()


def test_fine_tuning_by_hand():
    support, queries = task()
    learner = ContrastiveProbe(network(), pairs_per_class=3, epochs=2, batch_size=4, learning_rate=0.01)
    found = learner.adapt(support)(queries)
    by_hand = network()
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)
    before = LogisticRegression()(Labelled(by_hand(support.x), support.y), by_hand(queries), 3).detach()
    with learner.context():
        batches = list(learner.batches(support, 3))
    assert [len(target) for _, _, target in batches] == [4, 4, 4, 4, 2] * 2
    pairs = [torch.stack([part.long() for part in parts]).T for parts in batches]
    epochs = [torch.cat(pairs[:5]).tolist(), torch.cat(pairs[5:]).tolist()]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]
    for first, second, target in batches:
        optimizer.zero_grad()
        u, v = by_hand(support.x[first]), by_hand(support.x[second])
        cosine = (u * v).sum(1) / u.norm(dim=1) / v.norm(dim=1)
        ((cosine - target) ** 2).mean().backward()
        optimizer.step()
    expected = LogisticRegression()(Labelled(by_hand(support.x), support.y), by_hand(queries), 3).detach()
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)
    assert (found - before).abs().max() > 0.1
    assert all(
        torch.equal(one, other) for one, other in zip(learner.network.parameters(), network().parameters(), strict=True)
    )


@pytest.mark.parametrize("batch_size", [2, 100])  # fewer and more examples in a batch than in the support set
def test_embedding_the_batch_or_the_whole_set_is_the_same(batch_size):
    support, _ = task()
    learner = ContrastiveProbe(network(), batch_size=batch_size)
    rows = torch.randint(12, (2 * batch_size,))
    expected = learner.network(support.x[rows])
    torch.testing.assert_close(learner.embedded(learner.tensors(), support.x, rows), expected)


def test_without_epochs_it_is_a_logistic_probe():
    support, queries = task()
    expected = LogisticProbe(network(), transform=[]).adapt(support)(queries)
    assert torch.equal(ContrastiveProbe(network(), epochs=0).adapt(support)(queries), expected)


def test_one_shot_pushes_classes_apart_and_pairs_of_one_class_teach_nothing():
    support, _ = task(shots=1)
    learner = ContrastiveProbe(network(), learning_rate=0.01, epochs=3)

    def cosines(meta):
        embedded = F.normalize(learner.embed(meta, support.x), dim=-1)
        return (embedded @ embedded.T)[~torch.eye(3, dtype=torch.bool)]

    with learner.context():
        alike = [t * (f != s) for f, s, t in learner.batches(support, 3)]
        tuned = learner.fine_tuned(learner.tensors(), support, 3)
    assert not torch.cat(alike).any()
    assert cosines(tuned).abs().mean() < 0.5 * cosines(learner.tensors()).abs().mean()


def texts(n):
    mask = torch.arange(8) < torch.randint(2, 9, (2, n, 1))
    return Tokens(torch.randint(1, 50, (2, n, 8)) * mask, mask)


def test_only_what_is_adapted_moves_in_an_encoder_of_texts_over_vmap():
    torch.manual_seed(2)
    y = torch.tensor([[0, 1, 2] * 2] * 2)
    episode, found = Episode(Labelled(texts(6), y), Labelled(texts(6), y), torch.arange(2)), []
    for mapping in ("vmap", "loop"):
        torch.manual_seed(3)
        encoder = LoRA(TextTransformer(50, 8, 1, heads=2), ["*.out", "*.narrow"], rank=2, init=0.1)
        learner = ContrastiveProbe(encoder, learning_rate=0.05, adapted=["*lora_B"], engine=Engine(mapping=mapping))
        found.append(learner.double().eval().evaluate(episode).predictions)
    torch.testing.assert_close(found[0], found[1], rtol=1e-10, atol=1e-12)
    assert (found[0][:, 0] - found[0][:, 1]).abs().max() > 0.01
    support = Labelled(Tokens(*(leaf[0] for leaf in episode.support.x)), y[0])
    assert set(learner.adapt(support).state[0]) == {
        "network.network.layers.0.out.lora_B", "network.network.layers.0.narrow.lora_B"
    }  # fmt: skip
    assert learner.setting()["adapted"] == ["*lora_B"]


def test_the_setting_counts_what_a_task_trains():
    encoder = LoRA(TextTransformer(50, 8, 1, heads=2), ["*.out"], rank=2)
    share = encoder.trained_share()
    assert not share.startswith("0 of")
    assert ContrastiveProbe(encoder).setting()["lora_parameters"] == share


def test_a_frozen_encoder_is_refused():
    with pytest.raises(ValueError, match="frozen"):
        ContrastiveProbe(network().requires_grad_(False))


@pytest.mark.parametrize(
    ("name", "value"), [("pairs_per_class", 0), ("epochs", -1), ("batch_size", 0), ("learning_rate", 0.0)]
)
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        ContrastiveProbe(network(), **{name: value})
