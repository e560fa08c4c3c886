"""Relations between maps (authors' code: floodsung/LearningToCompare_FSL at addd2c9, omniglot/)."""

import pytest
import torch
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import RelationNetwork
from metalit.heads import LearnedRelation
from metalit.networks import Conv4, ConvMaps, RelationModule

F64 = torch.float64


class Sums(nn.Module):
    """The sum of the class's maps, then minus that of the query's: says what came in."""

    def forward(self, pairs):
        left, right = pairs.chunk(2, dim=1)
        return left.sum(dim=(1, 2, 3)) - 1000 * right.sum(dim=(1, 2, 3))


def test_a_class_is_the_sum_of_its_shots():
    torch.manual_seed(0)
    support = Labelled(torch.randn(6, 2, 3, 3, dtype=F64), torch.tensor([0, 1, 2, 2, 1, 2]))
    query = torch.randn(4, 2, 3, 3, dtype=F64)
    logits = LearnedRelation(Sums())(support, query, 3)
    classes = torch.stack([support.x[support.y == k].sum() for k in range(3)])
    torch.testing.assert_close(logits, classes - 1000 * query.sum(dim=(1, 2, 3)).unsqueeze(1))


def test_loss_is_the_squared_error_of_scores():
    """With logits of 0 every score is 1/2, and so is every error."""
    learner = RelationNetwork(nn.Identity(), relation=nn.Sequential(nn.Flatten(), nn.Linear(8, 1), nn.Flatten(0)))
    for parameter in learner.parameters():
        nn.init.zeros_(parameter)
    x, y = torch.randn(2, 3, 1, 2, 2), torch.arange(3).expand(2, -1)
    episode = Episode(Labelled(x, y), Labelled(x, y), torch.arange(2))
    torch.testing.assert_close(learner(episode).loss, torch.full((2,), 0.25))


def test_shapes_are_those_of_the_authors_networks():
    """28 pixels become maps of 5; of those the relation module keeps one, so its first linear layer has 64 inputs."""
    network = ConvMaps()
    learner = RelationNetwork(network)
    assert network(torch.rand(2, 1, 28, 28)).shape == (2, 64, 5, 5) == (2, network.channels, *[network.size] * 2)
    assert learner.head.relation.head[0].in_features == 64
    assert learner.head.relation.blocks[0][0].in_channels == 128


def test_batch_norm_is_of_one_kind_and_stated():
    assert RelationNetwork(ConvMaps(batch_norm="running")).setting()["batch_norm"] == "running"
    mixed = RelationNetwork(ConvMaps(batch_norm="batch"), RelationModule(batch_norm="running"))
    assert mixed.setting()["batch_norm"] == "mixed"


def test_other_networks_are_refused():
    with pytest.raises(ValueError, match=r"Conv4 does not say .*relation="):
        RelationNetwork(Conv4())
    with pytest.raises(ValueError, match=r"\[2, 4\].*ConvMaps"):
        LearnedRelation(Sums())(Labelled(torch.rand(2, 4), torch.arange(2)), torch.rand(3, 4), 2)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (ConvMaps, {"channels": 0}),
        (ConvMaps, {"image_size": 11}),
        (RelationModule, {"size": 3}),
        (RelationModule, {"hidden": 0}),
    ],
)
def test_impossible_sizes_are_refused(make, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        make(**settings)
