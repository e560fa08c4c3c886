"""Networks of PyTorch Geometric, and modules that are called as they are."""

import pytest
import torch
from torch import nn

from algorithms.test_battery import meta_gradient
from metalit import Engine
from metalit.engine.explanations import CannotVectoriseError
from metalit.episode import Graphs
from metalit.errors import SettingError, UserError
from metalit.networks import GIN, PyGNetwork
from random_graphs import EDGE_LENGTH, NODE_LENGTH, graph_episode, graph_maml, permuted, random_graphs, wider


class Flat(nn.Module):
    """A small network as one writes it with PyG: GIN's sum over neighbours, then the mean over a graph."""

    def __init__(self, gin):
        super().__init__()
        self.gin = gin

    def forward(self, x, edge_index, edge_attr, batch):
        states = self.gin.lift(x)
        for layer in self.gin.layers:
            messages = states[edge_index[0]]
            if edge_attr is not None:
                messages = (messages + layer.edge(edge_attr)).relu()
            arrived = torch.zeros_like(states).index_add(0, edge_index[1], messages)
            states = layer.norm(layer.mlp((1 + layer.epsilon) * states + arrived)).relu()
        graphs = int(batch.max()) + 1
        return states.new_zeros(graphs, states.shape[1]).index_add(0, batch, states)


def gin(edge_inputs=EDGE_LENGTH):
    torch.manual_seed(0)
    return GIN(NODE_LENGTH, edge_inputs, width=8, layers=2).double()


@pytest.mark.parametrize("edge_length", [0, EDGE_LENGTH])
def test_a_network_for_flat_graphs_gives_what_its_equations_give_for_padded_ones(edge_length):
    own = gin(edge_length)
    network, x = PyGNetwork(Flat(own), features=8), random_graphs(5, edge_length=edge_length)
    for graphs in (x, wider(x), permuted(x)):
        torch.testing.assert_close(network(graphs), own(x), rtol=0, atol=1e-12)
    expected = meta_gradient(graph_maml(own), graph_episode(edge_length=edge_length))
    learner = graph_maml(PyGNetwork(Flat(gin(edge_length)), features=8), Engine("loop"))
    found = meta_gradient(learner, graph_episode(edge_length=edge_length))
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-12)
    for name, gradient in expected[1].items():
        there = found[1][name.replace("network.body.", "network.body.network.gin.")]
        torch.testing.assert_close(there, gradient, rtol=1e-9, atol=1e-12)


def test_vmap_names_the_loop():
    with pytest.raises(CannotVectoriseError, match=r"engine\.mapping is vmap, expected loop"):
        meta_gradient(graph_maml(PyGNetwork(Flat(gin()), features=8)), graph_episode())


def test_examples_that_are_padding_keep_their_row():
    network, x = PyGNetwork(Flat(gin()), features=8), random_graphs(4)
    last = torch.tensor([True, True, True, False])
    padded = Graphs(*(leaf * last.reshape(-1, *[1] * (leaf.dim() - 1)) for leaf in x))
    torch.testing.assert_close(network(padded)[:3], network(x)[:3])


class OfNodes(nn.Module):
    def forward(self, x, edge_index):
        return x


class Dense(nn.Module):
    def forward(self, x, adjacency):
        return x


def test_what_is_refused():
    with pytest.raises(UserError, match="pool over batch"):
        PyGNetwork(OfNodes(), features=5)(random_graphs(4))
    with pytest.raises(UserError, match="takes x, adjacency; PyGNetwork needs"):
        PyGNetwork(Dense(), features=5)
    with pytest.raises(SettingError) as error:
        PyGNetwork(Flat(gin()), features=7)(random_graphs(4))
    assert (error.value.name, error.value.value) == ("features", 7)
    with pytest.raises(SettingError, match="an encoder of a Tensor"):
        PyGNetwork(Flat(gin()), features=8)(torch.zeros(2, 3))


def test_with_pyg_itself():
    nn_of_pyg = pytest.importorskip("torch_geometric.nn", reason="needs metalit[graphs]")

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn_of_pyg.GINConv(nn.Linear(NODE_LENGTH, 8))
            self.second = nn_of_pyg.GATConv(8, 8)

        def forward(self, x, edge_index, batch):
            return nn_of_pyg.global_mean_pool(self.second(self.first(x, edge_index).relu(), edge_index), batch)

    torch.manual_seed(0)
    network, x = PyGNetwork(Net().double(), features=8), random_graphs(5)
    torch.testing.assert_close(network(wider(x)), network(x), rtol=0, atol=1e-12)
    loss, gradient = meta_gradient(graph_maml(network, Engine("loop")), graph_episode())
    assert loss.isfinite()
    assert all(value.isfinite().all() for value in gradient.values())
