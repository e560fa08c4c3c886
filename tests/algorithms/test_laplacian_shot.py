"""LaplacianShot: the authors' loop written out, its energy, and the method that it is without neighbours."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from metalit import Labelled
from metalit.algorithms import LaplacianShot, PrototypicalNetwork
from metalit.functional.laplacian import bound_updates, nearest_neighbours

pytestmark = pytest.mark.algorithms("LaplacianShot")
F64 = torch.float64


def task(ways=3, shots=2, queries=6, features=5):
    torch.manual_seed(0)
    centres = torch.randn(ways, features, dtype=F64)
    y, labels = torch.arange(ways).repeat_interleave(shots), torch.arange(ways).repeat(queries)
    x, q = (centres[k] + 0.7 * torch.randn(len(k), features, dtype=F64) for k in (y, labels))
    return Labelled(x, y), q


def learner(**settings):
    return LaplacianShot(nn.Identity(), features=5, **settings).double()


def by_hand(support, queries, shots, smoothness, knn, rectify, iterations=20):
    """The authors' functions of train_lshot.py and lshot_update.py in numpy, one example after the other."""
    gallery, q = (x.numpy() / np.linalg.norm(x.numpy(), axis=1, keepdims=True) for x in (support.x, queries))
    means = gallery.reshape(-1, shots, gallery.shape[1]).mean(1)
    if rectify:
        q = q + gallery.mean(0) - q.mean(0)
        both = np.concatenate([gallery, q])
        cosines = both @ means.T / np.linalg.norm(both, axis=1)[:, None] / np.linalg.norm(means, axis=1)
        weights = np.exp(10 * cosines) / np.exp(10 * cosines).sum(1, keepdims=True)
        nearest = cosines.argmax(1)
        means = np.stack([(weights[nearest == k, k][:, None] * both[nearest == k]).mean(0) for k in range(len(means))])
    unary = np.stack([[((one - mean) ** 2).sum() for mean in means] for one in q])
    graph = np.zeros((len(q), len(q)))
    for i, one in enumerate(q):
        graph[i, np.argsort(((q - one) ** 2).sum(1))[1:knn]] = 1  # the first is the query itself
    y = np.exp(-unary) / np.exp(-unary).sum(1, keepdims=True)
    for _ in range(iterations):
        y = np.exp(-unary + smoothness * graph @ y)
        y = y / y.sum(1, keepdims=True)
    return y


@pytest.mark.parametrize("rectify", [True, False])
@pytest.mark.parametrize(("smoothness", "knn"), [(0.7, 3), (1.5, 5)])
def test_the_authors_loop(smoothness, knn, rectify):
    support, queries = task()
    settings = {"smoothness": smoothness, "neighbours": knn - 1, "rectify": rectify, "transform": ["l2"]}
    found = learner(**settings).adapt(support)(queries).softmax(-1)
    expected = by_hand(support, queries, 2, smoothness, knn, rectify)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_without_neighbours_it_is_the_nearest_class_mean():
    support, queries = task()
    prototypes = PrototypicalNetwork(nn.Identity(), transform=["l2"], features=5).double().adapt(support)(queries)
    for none in ({"smoothness": 0.0}, {"neighbours": 0}, {"iterations": 0}):
        found = learner(rectify=False, transform=["l2"], **none).adapt(support)(queries)
        torch.testing.assert_close(found, prototypes)


def test_no_update_raises_the_energy():
    torch.manual_seed(0)
    unary, half = torch.rand(12, 3, dtype=F64), torch.randn(12, 12, dtype=F64)
    graph = half @ half.T / 12  # symmetric and positive semi-definite, as the bound asks for

    def energy(y):
        return (y * unary + y * y.log()).sum() - 0.4 * (y * (graph @ y)).sum()

    energies = [energy(bound_updates(unary, graph, 0.8, steps).softmax(-1)) for steps in range(15)]
    assert all(after <= before + 1e-12 for before, after in pairwise(energies))
    assert energies[-1] < energies[0]


def test_the_graph_links_nearest_others():
    x = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert nearest_neighbours(x, 1).tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]]
    assert nearest_neighbours(x, 9).tolist() == (1 - torch.eye(4)).tolist()
    assert nearest_neighbours(x[:1], 2).tolist() == [[0]]


def test_it_is_marked_transductive():
    assert learner().setting() == {
        "algorithm": "LaplacianShot", "batch_norm": "none", "transductive": True, "transform": ["centre", "l2"],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["smoothness", "neighbours", "iterations"])
def test_impossible_numbers_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1"):
        learner(**{name: -1})
