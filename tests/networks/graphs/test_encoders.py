"""Encoders of graphs: the papers' equations, padding, order, second order, and what is refused."""

from functools import partial

import pytest
import torch
from torch import nn

from algorithms.test_battery import assert_same_gradient, meta_gradient
from metalit import Engine, Labelled, PrototypicalNetwork
from metalit.algorithms import FOMAML
from metalit.engine.certified import uncertified
from metalit.episode import Graphs, PaddedLabelled
from metalit.errors import SettingError
from metalit.networks import GIN, GatedGCN
from random_graphs import (
    EDGE_LENGTH,
    NODE_LENGTH,
    graph_episode,
    graph_maml,
    permuted,
    random_graphs,
    wider,
)
from random_texts import shaken

SIZES = {"inputs": NODE_LENGTH, "edge_inputs": EDGE_LENGTH, "width": 8, "layers": 2}
READOUTS = ["sum", "mean", "max", "attention"]
ENCODERS = {
    **{f"GIN {readout}": partial(GIN, **SIZES, readout=readout) for readout in READOUTS},
    **{f"GatedGCN {readout}": partial(GatedGCN, **SIZES, readout=readout) for readout in READOUTS},
    "GIN without edge features": partial(GIN, **{**SIZES, "edge_inputs": 0}),
    "GatedGCN without edge features": partial(GatedGCN, **{**SIZES, "edge_inputs": 0}),
    "GIN every layer": partial(GIN, **SIZES, every_layer=True, norm="none", learn_epsilon=False),
    "GatedGCN without residual": partial(GatedGCN, **SIZES, residual=False, norm="none"),
}
ALL = pytest.mark.parametrize("name", ENCODERS)
BOTH = pytest.mark.parametrize("name", ["GIN max", "GatedGCN mean", "GIN without edge features"])
TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}


def edge_length(name):
    return 0 if "without edge features" in name else EDGE_LENGTH


def encoder(name, dtype=torch.float64):
    torch.manual_seed(0)
    return shaken(ENCODERS[name](), by=0.1).to(dtype)


def graphs(name, *shape, dtype=torch.float64, **settings):
    return random_graphs(*shape, edge_length=edge_length(name), dtype=dtype, **settings)


def close(found, expected, dtype):
    # relative to the numbers' size, since sums over nodes are not of size 1
    assert (found - expected).abs().max() <= TOLERANCE[dtype] * expected.abs().max().clamp(min=1)


@ALL
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_neither_padding_nor_order_changes_an_embedding(name, dtype):
    network, x = encoder(name, dtype), graphs(name, 7, dtype=dtype)
    expected = network(x)
    assert expected.shape == (7, network.features)
    assert expected.dtype == dtype
    close(network(wider(x)), expected, dtype)
    close(network(permuted(x)), expected, dtype)
    order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
    close(network(Graphs(*(leaf[order] for leaf in x))), expected[order], dtype)
    close(network(Graphs(*(leaf[3:4] for leaf in x))), expected[3:4], dtype)


def linear(layer, x):
    return layer.weight @ x + (0 if layer.bias is None else layer.bias)


def normed(norm, x):
    if isinstance(norm, nn.Identity):
        return x
    scaled = (x - x.mean()) / (x.var(correction=0) + norm.eps).sqrt()
    return scaled * norm.weight + norm.bias


def read(pooling, states):
    states = torch.stack(states)
    if pooling.score is not None:
        weights = (states @ pooling.score.weight[0]).softmax(0)
        return weights @ states
    return {"sum": states.sum(0), "mean": states.mean(0), "max": states.max(0).values}[pooling.readout]


def gin_of(network, nodes, edges, edge_features):
    """One graph, node after node: equation 4.1 of Xu et al. 2019, messages of Hu et al. 2020."""
    states = [linear(network.lift, node) for node in nodes]
    every = [states]
    for layer in network.layers:
        new = []
        for v, own in enumerate(states):
            total = own * (1 if layer.epsilon is None else 1 + layer.epsilon)
            for (source, target), features in zip(edges, edge_features, strict=True):
                if target == v:
                    message = states[source]
                    total = total + (message if layer.edge is None else (message + linear(layer.edge, features)).relu())
            first, norm, _, second = layer.mlp
            new.append(normed(layer.norm, linear(second, normed(norm, linear(first, total)).relu())).relu())
        states = new
        every.append(states)
    return torch.cat([read(network.readout, each) for each in (every if network.every_layer else every[-1:])])


def gated_gcn_of(network, nodes, edges, edge_features):
    """One graph, node after node: the equations of Bresson and Laurent 2017 in the form of Dwivedi et al. 2020."""
    states = [linear(network.lift, node) for node in nodes]
    if network.edge_inputs == 0:
        edge_features = torch.ones(len(edges), 1, dtype=torch.float64)
    of_edges = [linear(network.lift_edges, features) for features in edge_features]
    for layer in network.layers:
        z = [
            linear(layer.A, e) + linear(layer.B, states[source]) + linear(layer.C, states[target])
            for e, (source, target) in zip(of_edges, edges, strict=True)
        ]
        new = []
        for v, own in enumerate(states):
            incoming = [(each.sigmoid(), states[s]) for each, (s, t) in zip(z, edges, strict=True) if t == v]
            denominator = sum((gate for gate, _ in incoming), start=torch.tensor(1e-6))
            total = linear(layer.U, own) + sum(gate / denominator * linear(layer.V, state) for gate, state in incoming)
            new.append((own if layer.residual else 0) + normed(layer.norm, total).relu())
        states = new
        if layer.edge_norm is not None:
            of_edges = [
                (e if layer.residual else 0) + normed(layer.edge_norm, each).relu()
                for e, each in zip(of_edges, z, strict=True)
            ]
    return read(network.readout, states)


@ALL
def test_equals_the_papers_equations_graph_by_graph(name):
    network, x = encoder(name), graphs(name, 6)
    reference = gin_of if name.startswith("GIN") else gated_gcn_of
    found = network(x)
    for graph, embedding in enumerate(found):
        nodes, edges, edge_features, node_mask, edge_mask = (leaf[graph] for leaf in x)
        of_edges = edges[edge_mask].tolist(), edge_features[edge_mask]
        expected = reference(network, nodes[node_mask], *of_edges)
        torch.testing.assert_close(embedding, expected, rtol=1e-10, atol=1e-10)


@ALL
def test_vmap_gives_the_loops_meta_gradient_of_all_parameters(name):
    episode = graph_episode(edge_length=edge_length(name))
    expected = meta_gradient(graph_maml(encoder(name), Engine("loop")), episode)
    found = meta_gradient(graph_maml(encoder(name)), episode)
    assert uncertified(graph_maml(encoder(name))) is None
    assert_same_gradient(found, expected)
    inside = meta_gradient(graph_maml(encoder(name), Engine(differentiate="inside")), episode)
    assert_same_gradient(inside, expected)
    # a gradient reaches every parameter; of GatedGCN's last V and A too
    assert all(gradient.abs().max() > 0 for gradient in expected[1].values())


@BOTH
def test_the_meta_gradient_is_of_second_order(name):
    episode = graph_episode(edge_length=edge_length(name))
    second = meta_gradient(graph_maml(encoder(name)), episode)
    first = meta_gradient(graph_maml(encoder(name), method=FOMAML), episode)
    with pytest.raises(AssertionError):
        assert_same_gradient(second, first, tolerance=1e-3)


@BOTH
def test_padding_and_order_change_no_meta_gradient(name):
    expected = meta_gradient(graph_maml(encoder(name)), graph_episode(edge_length=edge_length(name)))

    def reordered(x):
        return Graphs(*map(torch.stack, zip(*(permuted(Graphs(*task)) for task in zip(*x, strict=True)), strict=True)))

    for change in (wider, reordered):
        changed = graph_episode(edge_length=edge_length(name), change=change)
        assert_same_gradient(meta_gradient(graph_maml(encoder(name)), changed), expected)


@ALL
def test_an_example_that_is_padding_has_finite_embedding_and_gradient(name):
    network, x = encoder(name), graphs(name, 3)
    nothing = Graphs(*(torch.zeros_like(leaf) for leaf in x))
    network(nothing).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
    assert network(nothing).isfinite().all()


def test_padded_examples_change_no_loss():
    learner, episode = graph_maml(encoder("GIN max")), graph_episode()

    def padded(part):
        x = Graphs(*(torch.cat([leaf, torch.zeros_like(leaf[:, :2])], dim=1) for leaf in part.x))
        y = torch.cat([part.y, torch.zeros_like(part.y[:, :2])], dim=1)
        return PaddedLabelled(x, y, (torch.arange(y.shape[1]) < part.y.shape[1]).expand_as(y))

    changed = episode._replace(support=padded(episode.support), query=padded(episode.query))
    assert_same_gradient(meta_gradient(learner, changed), meta_gradient(graph_maml(encoder("GIN max")), episode))


@pytest.mark.parametrize("kind", [GIN, GatedGCN])
def test_dropout_is_keyed_and_only_in_training(kind):
    def found(engine):
        torch.manual_seed(0)
        return meta_gradient(graph_maml(kind(**SIZES, dropout=0.5), engine), graph_episode())

    assert_same_gradient(found(Engine()), found(Engine("loop")))
    network, x = kind(**SIZES, dropout=0.5).double().eval(), random_graphs(3)
    torch.testing.assert_close(network(x), network(x), rtol=0, atol=0)
    network.train()
    assert (network(x) - network(x)).abs().max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", [GIN, GatedGCN])
def test_the_compiler_gives_the_same(kind):
    def found(engine):
        torch.manual_seed(0)
        network = shaken(kind(**{**SIZES, "layers": 1}), by=0.1)
        return meta_gradient(PrototypicalNetwork(network, engine=engine), graph_episode())

    compiled = found(Engine(compile=True, compile_backend="aot_eager"))
    torch._dynamo.reset()
    assert_same_gradient(compiled, found(Engine()))


@pytest.mark.parametrize("kind", [GIN, GatedGCN])
@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"inputs": 0}, "inputs"),
        ({"edge_inputs": -1}, "edge_inputs"),
        ({"width": 0}, "width"),
        ({"layers": 0}, "layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_settings_out_of_range(kind, settings, name):
    with pytest.raises(SettingError) as error:
        kind(**{**SIZES, **settings})
    assert error.value.name == name


@pytest.mark.parametrize("kind", [GIN, GatedGCN])
def test_graphs_of_another_form_are_refused_by_the_setting(kind):
    network, x = kind(**SIZES).double(), random_graphs(2)
    for wrong, name, expected in (
        (x._replace(nodes=x.nodes[..., :4]), "inputs", "4, the length of a node's features"),
        (x._replace(edge_features=x.edge_features[..., :0]), "edge_inputs", "0, the length of an edge's features"),
        (torch.zeros(2, 3), "network", "an encoder of a Tensor"),
    ):
        with pytest.raises(SettingError) as error:
            network(wrong)
        assert (error.value.name, error.value.expected[: len(expected)]) == (name, expected)


def test_adapted_to_graphs():
    learner, episode = graph_maml(encoder("GIN sum")), graph_episode(tasks=1)
    support, query = (Labelled(Graphs(*(leaf[0] for leaf in part.x)), part.y[0]) for part in episode[:2])
    expected = learner.eval().evaluate(episode).predictions[0, -1]
    torch.testing.assert_close(learner.adapt(support)(query.x), expected, rtol=0, atol=1e-12)
