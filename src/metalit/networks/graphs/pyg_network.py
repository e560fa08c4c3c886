"""Networks written for PyTorch Geometric."""

import inspect

import torch
from torch import Tensor, nn

from metalit.episode import Graphs
from metalit.errors import SettingError, UserError, at_least

ARGUMENTS = "x", "edge_index", "edge_attr", "batch"


class PyGNetwork(nn.Module):
    """A network of PyTorch Geometric as an encoder of graphs.

    It is called by keyword with those of these four that its ``forward`` takes: ``x [nodes, F]``, ``edge_index
    [2, edges]``, ``edge_attr [edges, D]`` (None if edges have no features) and ``batch [nodes]``, the number of each
    node's graph. Padding is left out. The network must return one vector for each graph, which means that it pools
    over ``batch``.

    How many nodes there are depends on the graphs, and PyG's layers read it: tasks must be mapped by a loop
    (``engine.mapping: loop``). PyG itself is not needed; any module with such a ``forward`` will do.

    Args:
        network: the network.
        features: length of an embedding, >= 1.

    Attributes:
        features: the same.

    Shape:
        n graphs to ``[n, features]``.

    Raises:
        SettingError: ``features`` is below 1 or differs from what the network returns.
        UserError: ``forward`` takes no ``x`` and ``edge_index``, or returns something else than a vector for each
            graph.
    """

    def __init__(self, network: nn.Module, features: int) -> None:
        super().__init__()
        at_least(1, features=features)
        taken = inspect.signature(network.forward).parameters
        self.arguments = [name for name in ARGUMENTS if name in taken]
        if self.arguments[:2] != ["x", "edge_index"]:
            raise UserError(
                f"{type(network).__name__}.forward takes {', '.join(taken) or 'nothing'}; PyGNetwork needs a network "
                f"whose forward takes x and edge_index, and edge_attr and batch if it uses them"
            )
        self.network, self.features = network, features

    def forward(self, x: Graphs) -> Tensor:
        """Return embeddings ``[n, features]``."""
        if not isinstance(x, Graphs):
            raise SettingError("network", type(self).__name__, f"an encoder of a {type(x).__name__}: graphs are Graphs")
        given = flat(x)
        found: Tensor = self.network(**{name: given[name] for name in self.arguments})
        if not (isinstance(found, Tensor) and found.dim() == 2 and len(found) == len(x.node_mask)):
            shape = list(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise UserError(
                f"{type(self.network).__name__} returns {shape} for {len(x.node_mask)} graphs, expected a vector for "
                "each: pool over batch, as by global_add_pool(x, batch)"
            )
        if found.shape[1] != self.features:
            expected = f"{found.shape[1]}, the length of what {type(self.network).__name__} returns"
            raise SettingError("features", self.features, expected, owner=type(self))
        return found


def flat(x: Graphs) -> dict[str, Tensor | None]:
    """Return n padded graphs as PyG has a batch of them, by the names of its arguments."""
    mask = x.node_mask.clone()
    # an example that is padding keeps one node of zeros: PyG counts graphs by the largest number in ``batch``
    mask[:, 0] = True
    graphs, nodes = mask.shape
    place = mask.flatten().cumsum(0) - 1  # of each node among those that are not padding
    first = torch.arange(graphs, device=mask.device).reshape(-1, 1, 1) * nodes
    edges = place[(x.edges + first)[x.edge_mask]]
    return {
        "x": x.nodes[mask],
        "edge_index": edges.T,
        "edge_attr": x.edge_features[x.edge_mask] if x.edge_features.shape[-1] else None,
        "batch": torch.arange(graphs, device=mask.device).unsqueeze(-1).expand_as(mask)[mask],
    }
