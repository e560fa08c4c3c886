"""Sums over the edges and nodes of padded graphs.

Legend: n graphs, V nodes and E edges in each with padding, D length of a state.

Nodes and edges of all graphs lie one behind the other, so that one gather and one ``scatter_add`` serve a layer. Under
``vmap`` these two also serve all tasks at once; ``index_add`` would be called for one task after the other.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from metalit.episode import Graphs

Readout = Literal["sum", "mean", "max"]


class Edges(NamedTuple):
    """The edges of all graphs of a batch, with nodes numbered through.

    Attributes:
        sources: ``[n * E]`` int64, the node from which each edge leaves, in 0..n*V-1.
        targets: ``[n * E]`` int64, the node at which it arrives.
        real: ``[n * E, 1]``, 1 where there is an edge and 0 where there is padding, in the dtype of the nodes.
    """

    sources: Tensor
    targets: Tensor
    real: Tensor


def numbered_through(x: Graphs) -> Edges:
    """Return the edges of graphs ``[n, V]``, ``[n, E]``, with the nodes of graph i numbered from i * V."""
    graphs, nodes = x.node_mask.shape
    first = torch.arange(graphs, device=x.edges.device).mul(nodes).reshape(-1, 1, 1)
    ends = (x.edges + first).flatten(0, 1)
    return Edges(ends[:, 0], ends[:, 1], x.edge_mask.reshape(-1, 1).to(x.nodes.dtype))


def sum_at(messages: Tensor, places: Tensor, count: int) -> Tensor:
    """Return for each of ``count`` nodes the sum of the messages that arrive there.

    Args:
        messages: ``[m, D]``; 0 for edges that are padding.
        places: ``[m]`` int64, the node at which each arrives, in 0..count-1.
        count: number of nodes.

    Returns:
        ``[count, D]``; 0 for a node without edges.
    """
    zeros = messages.new_zeros(count, messages.shape[-1])
    return zeros.scatter_add(0, places.unsqueeze(-1).expand_as(messages), messages)


def pooled_nodes(states: Tensor, mask: Tensor, readout: Readout) -> Tensor:
    """Return one vector for each graph: the sum, mean or maximum over its nodes.

    Args:
        states: ``[n, V, D]``, finite in padding too.
        mask: ``[n, V]`` bool, True where there is a node.
        readout: which of the three.

    Returns:
        ``[n, D]``; 0 for a graph without nodes, as an example that is padding has it.
    """
    real = mask.unsqueeze(-1)
    if readout == "max":
        # amax divides the gradient among equal nodes; the maximum's index would make it depend on their order
        largest = states.masked_fill(~real, torch.finfo(states.dtype).min).amax(dim=1)
        return torch.where(real.any(dim=1), largest, 0.0)
    total = (states * real).sum(dim=1)
    return total if readout == "sum" else total / real.sum(dim=1).clamp(min=1)


def attended_nodes(states: Tensor, scores: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of a graph's nodes, weighted by the softmax of their scores.

    Args:
        states: ``[n, V, D]``, finite in padding too.
        scores: ``[n, V, 1]``.
        mask: ``[n, V]`` bool, True where there is a node.

    Returns:
        ``[n, D]``; 0 for a graph without nodes.
    """
    real = mask.unsqueeze(-1)
    weights = scores.masked_fill(~real, torch.finfo(scores.dtype).min).softmax(dim=1)
    return (weights * real * states).sum(dim=1)
