"""Random graphs, and episodes of them, for tests of encoders of graphs."""

import torch
import torch.nn.functional as F

from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.episode import Graphs
from metalit.networks import Classifier
from random_texts import shaken

NODE_LENGTH, EDGE_LENGTH = 5, 3


def random_graphs(*shape, nodes=6, edges=9, edge_length=EDGE_LENGTH, seed=0, dtype=torch.float64):
    """Graphs ``[*shape]`` of 1 to ``nodes`` nodes and 0 to ``edges`` edges; the first has no edge, the last one node.

    Edges are directed, may be loops, and may occur twice.
    """
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(2, nodes + 1, shape, generator=generator)
    edge_counts = torch.randint(1, edges + 1, shape, generator=generator)
    edge_counts.view(-1)[0], counts.view(-1)[-1] = 0, 1
    node_mask = torch.arange(nodes) < counts.unsqueeze(-1)
    edge_mask = torch.arange(edges) < edge_counts.unsqueeze(-1)
    ends = (torch.rand(*shape, edges, 2, generator=generator) * counts[..., None, None]).long()
    features = torch.randn(*shape, nodes, NODE_LENGTH, generator=generator, dtype=dtype)
    edge_features = torch.randn(*shape, edges, edge_length, generator=generator, dtype=dtype)
    return Graphs(
        features * node_mask.unsqueeze(-1),
        ends * edge_mask.unsqueeze(-1),
        edge_features * edge_mask.unsqueeze(-1),
        node_mask,
        edge_mask,
    )


def wider(x, nodes=17, edges=23):
    """The same graphs with more padding."""
    more_nodes, more_edges = nodes - x.node_mask.shape[-1], edges - x.edge_mask.shape[-1]
    return Graphs(
        F.pad(x.nodes, (0, 0, 0, more_nodes)),
        F.pad(x.edges, (0, 0, 0, more_edges)),
        F.pad(x.edge_features, (0, 0, 0, more_edges)),
        F.pad(x.node_mask, (0, more_nodes)),
        F.pad(x.edge_mask, (0, more_edges)),
    )


def permuted(x, seed=3):
    """The same graphs ``[n]`` with nodes and edges in another order."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for graph in range(len(x.node_mask)):
        nodes, edges, edge_features, node_mask, edge_mask = (leaf[graph].clone() for leaf in x)
        of_nodes = torch.randperm(int(node_mask.sum()), generator=generator)
        of_edges = torch.randperm(int(edge_mask.sum()), generator=generator)
        nodes[: len(of_nodes)] = nodes[: len(of_nodes)][of_nodes]
        # node v stands at the place where ``of_nodes`` names it
        edges[: len(of_edges)] = of_nodes.argsort()[edges[: len(of_edges)]][of_edges]
        edge_features[: len(of_edges)] = edge_features[: len(of_edges)][of_edges]
        parts.append(Graphs(nodes, edges, edge_features, node_mask, edge_mask))
    return Graphs(*(torch.stack(leaves) for leaves in zip(*parts, strict=True)))


def graph_episode(tasks=3, edge_length=EDGE_LENGTH, change=lambda x: x):
    """Tasks of 2 classes, 2 shots and 3 queries."""

    def examples(seed, n):
        x = random_graphs(tasks, n, edge_length=edge_length, seed=seed)
        return Labelled(change(x), (torch.arange(n) % 2).expand(tasks, -1))

    return Episode(examples(1, 4), examples(2, 6), torch.arange(tasks))


def graph_maml(body, engine=None, method=MAML, **settings):
    """A MAML, of second order if not another, that adapts all parameters of an encoder of graphs, in float64."""
    torch.manual_seed(0)
    network = shaken(Classifier(body, ways=2), by=0.05)
    return method(network, inner_lr=0.1, inner_steps=2, engine=engine or Engine(), **settings).double()
