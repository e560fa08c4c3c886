"""The graph isomorphism network, with edge features if there are any."""

import torch
from torch import Tensor, nn

from metalit.episode import Graphs
from metalit.errors import at_least, check
from metalit.functional.graphs import Edges, numbered_through, sum_at
from metalit.networks.expected_inputs import check_graphs, known
from metalit.networks.graphs.parts import GraphReadout, NodeNorm, Pooling, node_norm


class GIN(nn.Module):
    """Graph isomorphism network (Xu et al. 2019, https://arxiv.org/abs/1810.00826).

        h_v <- W x_v;   per layer:  h_v <- ReLU(norm(MLP((1 + epsilon) h_v + sum_u m_uv)));   out = readout of the h_v

    over the edges (u, v) that arrive at v. The message m_uv is h_u, or ReLU(h_u + W_e e_uv) with features of edges, as
    in Hu et al. 2020 (https://arxiv.org/abs/1905.12265; the form of the Open Graph Benchmark, GINE).

    Differences from the paper: the features of nodes pass a linear layer first, and layer norm replaces batch norm,
    whose statistics would make a graph's embedding depend on the other graphs of its task.

    Args:
        inputs: F, length of a node's features, >= 1. If not given: on the command line and in ``metalit.load`` that of
            the data, else 1.
        edge_inputs: length of an edge's features, >= 0; 0 if edges have none. If not given: as ``inputs``, else 0.
        width: D, length of a node's state, >= 1.
        layers: number of layers, >= 1.
        readout: ``sum`` as in the paper, ``mean``, ``max`` or ``attention`` over the nodes.
        every_layer: read out the states of every layer and of the input, one behind the other, as in the paper's
            equation 4.2; otherwise those of the last layer.
        norm: ``layer`` or ``none``.
        learn_epsilon: whether epsilon is learned, from 0 (GIN-epsilon); otherwise it stays 0 (GIN-0).
        dropout: probability with which each number of a layer's states is dropped in training, in [0, 1).

    Attributes:
        features: length of an embedding: D, or (layers + 1) D with ``every_layer``.

    Shape:
        n graphs to ``[n, features]``.

    Raises:
        SettingError: a number is out of range, or the graphs have features of another length.
    """

    def __init__(
        self,
        inputs: int | None = None,
        edge_inputs: int | None = None,
        width: int = 64,
        layers: int = 3,
        readout: GraphReadout = "sum",
        every_layer: bool = False,
        norm: NodeNorm = "layer",
        learn_epsilon: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inputs, edge_inputs = known(inputs), edge_inputs or 0
        at_least(1, inputs=inputs, width=width, layers=layers)
        at_least(0, edge_inputs=edge_inputs)
        check("dropout", dropout, 0 <= dropout < 1, "a number in [0, 1)")
        self.inputs, self.edge_inputs, self.every_layer = inputs, edge_inputs, every_layer
        self.features = width * (layers + 1 if every_layer else 1)
        self.lift = nn.Linear(inputs, width)
        self.layers = nn.ModuleList(GINLayer(width, edge_inputs, norm, learn_epsilon, dropout) for _ in range(layers))
        self.readout = Pooling(width, readout)

    def forward(self, x: Graphs) -> Tensor:
        """Return embeddings ``[n, features]``."""
        check_graphs(self, x, self.inputs, self.edge_inputs)
        edges, edge_features = numbered_through(x), x.edge_features.flatten(0, 1)
        found = [self.lift(x.nodes.flatten(0, 1))]
        for layer in self.layers:
            found.append(layer(found[-1], edges, edge_features))
        read = found if self.every_layer else found[-1:]
        # not by unflatten, which the compiler does not take inside vmap
        places = *x.node_mask.shape, -1
        return torch.cat([self.readout(states.reshape(places), x.node_mask) for states in read], dim=-1)


class GINLayer(nn.Module):
    """One layer: each node's state plus the messages that arrive, through a small MLP.

    Args:
        width: D, length of a state.
        edge_inputs: length of an edge's features; 0 if there are none.
        norm: the norm within the MLP and behind it.
        learn_epsilon: whether epsilon is learned.
        dropout: probability with which a number is dropped.

    Shape:
        ``[m, D]`` to the same, for the m nodes of all graphs.
    """

    def __init__(self, width: int, edge_inputs: int, norm: NodeNorm, learn_epsilon: bool, dropout: float) -> None:
        super().__init__()
        self.epsilon = nn.Parameter(torch.zeros(1)) if learn_epsilon else None
        self.edge = nn.Linear(edge_inputs, width) if edge_inputs else None
        self.mlp = nn.Sequential(nn.Linear(width, width), node_norm(width, norm), nn.ReLU(), nn.Linear(width, width))
        self.norm, self.drop = node_norm(width, norm), nn.Dropout(dropout)

    def forward(self, states: Tensor, edges: Edges, edge_features: Tensor) -> Tensor:
        """Return the new states."""
        messages = states[edges.sources]
        if self.edge is not None:
            messages = (messages + self.edge(edge_features)).relu()
        arrived = sum_at(messages * edges.real, edges.targets, len(states))
        own = states if self.epsilon is None else (1 + self.epsilon) * states
        return self.drop(self.norm(self.mlp(own + arrived)).relu())  # type: ignore[no-any-return]
