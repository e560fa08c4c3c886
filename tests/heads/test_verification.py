"""Pairs of examples."""

import pytest
import torch
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import SiameseNetwork
from metalit.heads import SquaredEuclidean, Verification, WeightedL1

F64 = torch.float64


def task():
    torch.manual_seed(0)
    support = Labelled(torch.randn(5, 4, dtype=F64), torch.tensor([0, 1, 0, 1, 1]))
    return support, Labelled(torch.randn(3, 4, dtype=F64), torch.tensor([1, 0, 1]))


def pair_logits(head, support, query):
    weight, bias = head.similarity.weight, head.similarity.bias
    return torch.stack([bias - ((q - support.x).abs() * weight).sum(dim=1) for q in query.x])


@pytest.mark.parametrize("average", ["logits", "probabilities"])
def test_scores_are_averages_over_shots(average):
    support, query = task()
    head = Verification(WeightedL1(4), average).double()
    pairs = pair_logits(head, support, query)
    values = pairs if average == "logits" else pairs.sigmoid()
    means = torch.stack([values[:, support.y == k].mean(dim=1) for k in range(2)], dim=1)
    expected = means if average == "logits" else means.log()
    torch.testing.assert_close(head(support, query.x, 2), expected)


def test_pairs_of_one_class_weigh_as_much_as_all_others():
    support, query = task()
    learner = SiameseNetwork(nn.Identity(), features=4).double()
    pairs = pair_logits(learner.head, support, query)
    same = query.y[:, None] == support.y[None]
    yes, no = -nn.functional.logsigmoid(pairs)[same], -nn.functional.logsigmoid(-pairs)[~same]
    episode = Episode(*(Labelled(part.x[None], part.y[None]) for part in (support, query)), torch.arange(1))
    torch.testing.assert_close(learner(episode).loss[0], (yes.mean() + no.mean()) / 2)


def test_small_probabilities_do_not_underflow():
    support = Labelled(torch.tensor([[0.0], [100.0]]), torch.tensor([0, 1]))
    scores = Verification(SquaredEuclidean(), "probabilities")(support, torch.tensor([[3.0]]), 2)
    torch.testing.assert_close(scores, torch.tensor([[-9.0, -(97.0**2)]]), rtol=1e-4, atol=0)


def test_length_of_embeddings_must_be_known():
    with pytest.raises(ValueError, match=r"Identity does not say .*SiameseNetwork\(features="):
        SiameseNetwork(nn.Identity())
    with pytest.raises(ValueError, match="features is 0"):
        SiameseNetwork(nn.Identity(), features=0)
