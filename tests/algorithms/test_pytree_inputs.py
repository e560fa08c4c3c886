"""Inputs may be pytrees: every row that leaves its inputs to the network takes a dictionary, with the same numbers."""

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from algorithms.test_battery import assert_same_gradient, episodes, learner, meta_gradient
from cases import CASES, DOMAINS
from metalit import Engine, Labelled
from metalit.networks import Classifier

# what these take is not the network's input alone: images to generate, maps to relate, layers with two paths, points
WITHOUT = {
    "MetaGANMAML", "MetaGANRelationNetwork", "RelationNetwork", "MetaNetwork", "ConditionalNeuralProcess",
    "AttentiveNeuralProcess",
}  # fmt: skip
ROWS = [(name, domain) for name, case in CASES.items() if name not in WITHOUT for domain in case.learning]
IN_ORDER_OF_INPUTS = {"SNAIL", "MANN"}  # the order of reading is drawn by all that the inputs hold


class Named(nn.Module):
    """Takes its input out of a dictionary."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        for name in ("features", "context_size"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, x, *rest):
        return self.network(x["values"] * x.get("scale", 1), *rest)


def named(network):
    """The same network for dictionaries; a classifier keeps its head, which some methods adapt by name."""
    if isinstance(network, Classifier):
        network.body = Named(network.body)
        return network
    return Named(network)


@pytest.mark.parametrize(("name", "domain"), ROWS)
@pytest.mark.sample(3)
def test_a_dictionary_gives_the_same_loss_and_meta_gradient(name, domain, monkeypatch):
    episode = episodes(name, domain)
    expected = meta_gradient(learner(name, domain), episode)
    kind = CASES[name].network
    plain = DOMAINS[domain].networks[kind]
    monkeypatch.setitem(DOMAINS[domain].networks, kind, lambda: named(plain()))

    def as_dictionary(part):
        if name in IN_ORDER_OF_INPUTS:
            return Labelled({"values": part.x}, part.y)
        scale = torch.ones_like(part.x.flatten(2)[..., :1]).reshape(*part.x.shape[:2], *[1] * (part.x.dim() - 2))
        return Labelled({"values": part.x, "scale": scale}, part.y)

    changed = episode._replace(support=as_dictionary(episode.support), query=as_dictionary(episode.query))
    found = meta_gradient(learner(name, domain, engine=Engine(chunk_size=3)), changed)
    values = [value for value in found[1].values() if value is not None]
    renamed = dict(zip(expected[1], values, strict=True))
    assert_same_gradient((found[0], renamed), expected)


@pytest.mark.parametrize("name", ["MAML", "PrototypicalNetwork", "SNAIL", "PLATIPUS", "SimpleShot"])
def test_a_dictionary_can_be_adapted_to(name, monkeypatch):
    episode = episodes(name, "glyphs", "test")
    plain_learner = learner(name, "glyphs")
    support, query = tree_map(lambda leaf: leaf[0], (episode.support, episode.query))
    expected = plain_learner.adapt(support)(query.x)
    kind = CASES[name].network
    plain = DOMAINS["glyphs"].networks[kind]
    monkeypatch.setitem(DOMAINS["glyphs"].networks, kind, lambda: named(plain()))
    predictor = learner(name, "glyphs").adapt(Labelled({"values": support.x}, support.y))
    torch.testing.assert_close(predictor({"values": query.x}), expected, rtol=0, atol=1e-10)
