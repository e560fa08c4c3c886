"""Graphs of different sizes as flat arrays of nodes and edges."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from metalit.data.cache import Arrays
from metalit.data.graphs.graph import GraphArrays
from metalit.data.store import Examples
from metalit.data.stream import Integers
from metalit.episode import Graphs

SMALLEST = 8


class RaggedGraphs(Examples):
    """Graphs without padding. Selections are padded to the largest of their graphs, rounded up.

    Args:
        nodes: ``[sum V_i, F]``, the features of all graphs' nodes, one graph after another; of any dtype, episodes get
            torch's default.
        edges: ``[sum E_i, 2]`` int32, source and target of each edge, numbered within its graph.
        edge_features: ``[sum E_i, D]``.
        node_offsets: ``[n + 1]`` int64; graph i has the nodes ``node_offsets[i] .. node_offsets[i + 1] - 1``, at least
            one.
        edge_offsets: ``[n + 1]`` int64; the same for edges, of which a graph may have none.
    """

    def __init__(
        self, nodes: Tensor, edges: Tensor, edge_features: Tensor, node_offsets: Tensor, edge_offsets: Tensor
    ) -> None:
        # a place to read from if no graph has an edge; what is read there is masked
        if not len(edges):
            edges, edge_features = edges.new_zeros(1, 2), edge_features.new_zeros(1, edge_features.shape[-1])
        self.nodes, self.edges, self.edge_features = nodes, edges, edge_features
        self.node_offsets, self.edge_offsets = node_offsets, edge_offsets
        self.shape, self.dtype, self.device = torch.Size([len(node_offsets) - 1]), nodes.dtype, nodes.device

    @property
    def node_length(self) -> int:
        """F, length of a node's features."""
        return self.nodes.shape[-1]

    @property
    def edge_length(self) -> int:
        """D, length of an edge's features."""
        return self.edge_features.shape[-1]

    def index_select(self, dim: int, rows: Tensor) -> Graphs:
        """Return the graphs ``[m]``."""
        return self.take(rows)

    def take(self, rows: Tensor) -> Graphs:
        """Return the graphs ``[...]``, with nodes ``[..., V, F]`` and edges ``[..., E, 2]``."""
        return self.parts(rows)[0]

    def parts(self, *rows: Tensor) -> list[Graphs]:
        """Return several selections of graphs, padded to one number of nodes and one of edges."""
        rows = tuple(each.to(self.device) for each in rows)
        nodes, edges = (rounded_up(longest(of, rows)) for of in (self.node_offsets, self.edge_offsets))
        return [self._padded(each, nodes, edges) for each in rows]

    def selected(self, rows: Integers) -> "RaggedGraphs":
        """Return these graphs, ``[m]``, in that order."""
        chosen = torch.from_numpy(rows).to(self.device)
        node_places, node_offsets = flat_places(self.node_offsets, chosen)
        edge_places, edge_offsets = flat_places(self.edge_offsets, chosen)
        of_edges = self.edges[edge_places], self.edge_features[edge_places]
        return RaggedGraphs(self.nodes[node_places], *of_edges, node_offsets, edge_offsets)

    def to(self, device: torch.device) -> "RaggedGraphs":
        """Return the graphs on another device."""
        arrays = self.nodes, self.edges, self.edge_features, self.node_offsets, self.edge_offsets
        return RaggedGraphs(*(each.to(device) for each in arrays))

    def _padded(self, rows: Tensor, nodes: int, edges: int) -> Graphs:
        node_places, node_mask = places_and_mask(self.node_offsets, rows, nodes)
        edge_places, edge_mask = places_and_mask(self.edge_offsets, rows, edges)
        dtype, real_edge = torch.get_default_dtype(), edge_mask.unsqueeze(-1)
        return Graphs(
            self.nodes[node_places].to(dtype) * node_mask.unsqueeze(-1),
            self.edges[edge_places].to(torch.int64) * real_edge,
            self.edge_features[edge_places].to(dtype) * real_edge,
            node_mask,
            edge_mask,
        )


def ragged_arrays(graphs: Sequence[GraphArrays]) -> Arrays:
    """Return graphs as flat arrays, as a cache can hold them.

    Args:
        graphs: at least one; nodes ``[V, F]``, edges ``[E, 2]`` and features of edges ``[E, D]`` of each, with the
            same F and D in all.
    """
    nodes, edges, edge_features = zip(*graphs, strict=True)
    return {
        "nodes": np.concatenate(nodes),
        "edges": np.concatenate(edges).astype(np.int32),
        "edge_features": np.concatenate(edge_features),
        "node_offsets": np.cumsum([0, *map(len, nodes)], dtype=np.int64),
        "edge_offsets": np.cumsum([0, *map(len, edges)], dtype=np.int64),
    }


def from_arrays(arrays: Arrays) -> RaggedGraphs:
    """Return the graphs in the arrays of ``ragged_arrays``."""
    names = "nodes", "edges", "edge_features", "node_offsets", "edge_offsets"
    return RaggedGraphs(*(torch.from_numpy(arrays[name]) for name in names))


def rounded_up(size: int) -> int:
    """Return the size to which graphs are padded: at least 8, then at most four sizes up to each power of two.

    Each size is a shape that a compiled step is compiled for. So few cost at most a quarter of padding.
    """
    step = max(1 << max(size - 1, 0).bit_length() >> 3, SMALLEST)
    return max(-(-size // step) * step, SMALLEST)


def longest(of: Tensor, rows: Sequence[Tensor]) -> int:
    """Return the largest number of nodes or edges of the graphs in some selections, given the offsets ``of``."""
    return max((int((of[each + 1] - of[each]).max()) for each in rows if each.numel()), default=0)


def offsets(counts: Tensor) -> Tensor:
    """Return where each graph begins, ``[n + 1]``, given its number of nodes or edges ``[n]``."""
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def flat_places(of: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return the places of all nodes or edges of some graphs ``[m]``, and the offsets ``[m + 1]`` of these graphs."""
    counts = (of[1:] - of[:-1])[rows]
    new = offsets(counts)
    # each one's place: that of its graph, and its number within the graph
    places = torch.arange(int(new[-1]), device=of.device) - new[:-1].repeat_interleave(counts)
    return places + of[rows].repeat_interleave(counts), new


def places_and_mask(of: Tensor, rows: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return where the nodes or edges of graphs ``[...]`` lie, ``[..., size]``, and where there are some."""
    places = of[rows][..., None] + torch.arange(size, device=of.device)
    mask = places < of[rows + 1][..., None]
    return places * mask, mask
