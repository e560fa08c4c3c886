"""Encoders of graphs: from ``Graphs`` with n graphs to embeddings ``[n, D]``.

The rule here: neither padding nor the order of nodes and edges ever changes an embedding.
"""

from metalit.networks.graphs.gated_gcn import GatedGCN
from metalit.networks.graphs.gin import GIN
from metalit.networks.graphs.pyg_network import PyGNetwork

__all__ = ["GIN", "GatedGCN", "PyGNetwork"]
