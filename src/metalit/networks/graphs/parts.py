"""What the encoders of graphs share: the norm of states, and how a graph becomes one vector."""

from typing import Literal

from torch import Tensor, nn

from metalit.functional.graphs import Readout, attended_nodes, pooled_nodes

NodeNorm = Literal["layer", "none"]
GraphReadout = Literal["sum", "mean", "max", "attention"]


def node_norm(width: int, norm: NodeNorm) -> nn.Module:
    """Return the norm of states ``[..., width]``.

    There is no batch norm: its statistics would make the embedding of a graph depend on the other graphs of the task,
    the query's on the other queries.
    """
    return nn.LayerNorm(width) if norm == "layer" else nn.Identity()


class Pooling(nn.Module):
    """One vector for each graph, from the states of its nodes.

    Args:
        width: D, length of a state.
        readout: ``sum``, ``mean`` or ``max`` over the nodes; ``attention`` is a mean whose weights are the softmax of a
            learned linear score of each node.

    Shape:
        ``[n, V, D]`` and a mask ``[n, V]`` to ``[n, D]``.
    """

    def __init__(self, width: int, readout: GraphReadout) -> None:
        super().__init__()
        self.readout: Readout = "mean" if readout == "attention" else readout
        # no bias: the same number added to all scores changes no weight
        self.score = nn.Linear(width, 1, bias=False) if readout == "attention" else None

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return one vector for each graph."""
        if self.score is None:
            return pooled_nodes(states, mask, self.readout)
        return attended_nodes(states, self.score(states), mask)
