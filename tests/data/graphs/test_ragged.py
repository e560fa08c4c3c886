"""Ragged graphs: selections and padding."""

import numpy as np
import pytest
import torch

from metalit.data.graphs.ragged import from_arrays, ragged_arrays, rounded_up

GRAPHS = [
    (np.full((nodes, 2), nodes, dtype=np.float32), np.full((edges, 2), nodes - 1), np.full((edges, 1), edges / 2.0))
    for nodes, edges in ((1, 0), (3, 5), (2, 1), (11, 20), (4, 0))
]


def store():
    return from_arrays(ragged_arrays(GRAPHS))


def test_a_selection_has_each_graph_and_nothing_else():
    x = store().take(torch.tensor([[3, 0], [1, 4]]))
    assert x.nodes.shape == (2, 2, 16, 2)
    assert x.edges.shape == (2, 2, 24, 2)
    for place, row in zip([(0, 0), (0, 1), (1, 0), (1, 1)], [3, 0, 1, 4], strict=True):
        nodes, edges, features = GRAPHS[row]
        assert x.nodes[place][x.node_mask[place]].tolist() == nodes.tolist()
        assert x.edges[place][x.edge_mask[place]].tolist() == edges.tolist()
        assert x.edge_features[place][x.edge_mask[place]].tolist() == features.tolist()
        assert x.nodes[place].sum() == nodes.sum()
        assert x.edges[place].sum() == edges.sum()


def test_parts_get_one_size_and_torchs_default_dtype():
    support, query = store().parts(torch.tensor([[0]]), torch.tensor([[3]]))
    assert support.nodes.shape[2:] == query.nodes.shape[2:] == (16, 2)
    torch.set_default_dtype(torch.float64)
    try:
        assert store().take(torch.tensor([0])).nodes.dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_chosen_graphs_are_the_same():
    rows = np.array([4, 1, 1, 3])
    one, other = store().selected(rows).take(torch.arange(4)), store().take(torch.from_numpy(rows))
    for found, expected in zip(one, other, strict=True):
        assert found.equal(expected)


def test_graphs_without_any_edge():
    alone = from_arrays(ragged_arrays([GRAPHS[0], GRAPHS[4]]))
    x = alone.selected(np.array([1])).take(torch.tensor([0]))
    assert x.edge_mask.sum() == 0
    assert x.edges.shape == (1, 8, 2)
    assert x.node_mask.sum() == 4


def test_sizes_are_few_and_not_much_larger():
    sizes = [rounded_up(size) for size in range(1, 2000)]
    assert len(set(sizes)) <= 36
    assert all(size <= rounded <= max(8, 1.25 * size + 7) for size, rounded in enumerate(sizes, start=1))
    assert sizes == sorted(sizes)
    assert rounded_up(0) == 8


def test_on_a_device():
    meta = store().to(torch.device("meta"))
    assert meta.device.type == "meta"
    assert len(meta) == 5


@pytest.mark.parametrize("empty", [torch.zeros(0, dtype=torch.int64), torch.zeros(2, 0, dtype=torch.int64)])
def test_an_empty_selection(empty):
    assert store().take(empty).nodes.shape[: empty.dim()] == empty.shape
