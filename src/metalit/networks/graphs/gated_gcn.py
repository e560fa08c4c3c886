"""The gated graph convolutional network, whose edges have states of their own."""

from torch import Tensor, nn

from metalit.episode import Graphs
from metalit.errors import at_least, check
from metalit.functional.graphs import Edges, numbered_through, sum_at
from metalit.networks.expected_inputs import check_graphs, known
from metalit.networks.graphs.parts import GraphReadout, NodeNorm, Pooling, node_norm

EPSILON = 1e-6  # in the denominator of the gates, as the authors have it


class GatedGCN(nn.Module):
    """Gated graph convolutional network (Bresson and Laurent 2017, https://arxiv.org/abs/1711.07553).

    The residual form with states of edges of Dwivedi et al. 2020 (https://arxiv.org/abs/2003.00982), per layer over
    the edges (u, v) that arrive at v:

        z_uv = A e_uv + B h_u + C h_v
        gate_uv = sigmoid(z_uv) / (sum_u' sigmoid(z_u'v) + 1e-6)
        h_v <- h_v + ReLU(norm(U h_v + sum_u gate_uv * V h_u)),    e_uv <- e_uv + ReLU(norm(z_uv))

    The gates are those of the authors' code (graphdeeplearning/benchmarking-gnns, layers/gated_gcn_layer.py), taken of
    z before its norm.

    Differences from the paper: layer norm replaces batch norm, whose statistics would make a graph's embedding depend
    on the other graphs of its task. The last layer has no new states of edges, which nothing would read.

    Args:
        inputs: F, length of a node's features, >= 1. If not given: on the command line and in ``metalit.load`` that of
            the data, else 1.
        edge_inputs: length of an edge's features, >= 0; 0 if edges have none, whose states then all start as one
            learned vector. If not given: as ``inputs``, else 0.
        width: D, length of a node's and an edge's state, >= 1.
        layers: number of layers, >= 1.
        readout: ``mean`` as in Dwivedi et al., ``sum``, ``max`` or ``attention`` over the nodes.
        norm: ``layer`` or ``none``.
        residual: whether a layer adds to the states, as in the equations; otherwise it replaces them.
        dropout: probability with which each number of a layer's states is dropped in training, in [0, 1).

    Attributes:
        features: length of an embedding, D.

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
        layers: int = 4,
        readout: GraphReadout = "mean",
        norm: NodeNorm = "layer",
        residual: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        inputs, edge_inputs = known(inputs), edge_inputs or 0
        at_least(1, inputs=inputs, width=width, layers=layers)
        at_least(0, edge_inputs=edge_inputs)
        check("dropout", dropout, 0 <= dropout < 1, "a number in [0, 1)")
        self.inputs, self.edge_inputs, self.features = inputs, edge_inputs, width
        self.lift = nn.Linear(inputs, width)
        # a one in place of features that edges do not have
        self.lift_edges = nn.Linear(max(edge_inputs, 1), width, bias=edge_inputs > 0)
        self.layers = nn.ModuleList(
            GatedGCNLayer(width, norm, residual, dropout, last=number == layers - 1) for number in range(layers)
        )
        self.readout = Pooling(width, readout)

    def forward(self, x: Graphs) -> Tensor:
        """Return embeddings ``[n, features]``."""
        return self.readout(self.states(x), x.node_mask)  # type: ignore[no-any-return]

    def states(self, x: Graphs) -> Tensor:
        """Return the last states of the nodes, ``[n, V, features]``; those of padding mean nothing."""
        check_graphs(self, x, self.inputs, self.edge_inputs)
        edges = numbered_through(x)
        states = self.lift(x.nodes.flatten(0, 1))
        edge_states = self.lift_edges(x.edge_features.flatten(0, 1) if self.edge_inputs else edges.real)
        for layer in self.layers:
            states, edge_states = layer(states, edge_states, edges)
        # not by unflatten, which the compiler does not take inside vmap
        return states.reshape(*x.node_mask.shape, -1)  # type: ignore[no-any-return]


class GatedGCNLayer(nn.Module):
    """One layer; the symbols of ``GatedGCN`` are its attributes.

    Args:
        width: D, length of a state.
        norm: the norm of states.
        residual: whether the layer adds to the states.
        dropout: probability with which a number is dropped.
        last: whether nothing reads the states of edges behind it.

    Shape:
        ``[m, D]`` and ``[k, D]`` to the same, for the m nodes and k edges of all graphs.
    """

    def __init__(self, width: int, norm: NodeNorm, residual: bool, dropout: float, last: bool) -> None:
        super().__init__()
        self.A, self.B, self.C, self.U, self.V = (nn.Linear(width, width) for _ in range(5))
        self.norm, self.drop, self.residual = node_norm(width, norm), nn.Dropout(dropout), residual
        self.edge_norm = None if last else node_norm(width, norm)

    def forward(self, states: Tensor, edge_states: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
        """Return the new states of nodes and edges."""
        z = self.A(edge_states) + self.B(states)[edges.sources] + self.C(states)[edges.targets]
        opened = z.sigmoid() * edges.real
        # the denominator is the same for all edges that arrive at a node, so it divides their sum
        total = sum_at(opened, edges.targets, len(states))
        arrived = sum_at(opened * self.V(states)[edges.sources], edges.targets, len(states)) / (total + EPSILON)
        new = self._behind(states, self.norm(self.U(states) + arrived))
        return new, edge_states if self.edge_norm is None else self._behind(edge_states, self.edge_norm(z))

    def _behind(self, old: Tensor, new: Tensor) -> Tensor:
        new = new.relu()
        return self.drop(old + new if self.residual else new)  # type: ignore[no-any-return]
