"""Mahalanobis distances to class means: the definition by NumPy, both systems, masks and derivatives."""

import numpy as np
import pytest
import torch

from metalit import Labelled
from metalit.episode import labelled
from metalit.errors import SettingError
from metalit.heads import MahalanobisMeans

pytestmark = pytest.mark.algorithms("MahalanobisPrototypes")

F64 = torch.float64
LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 2])  # classes of 4, 2 and 1: the last has no covariance of its own


@pytest.fixture
def task(request):
    """Support set and queries of the length of embeddings that a test gives."""
    torch.manual_seed(0)
    features = request.param
    return Labelled(torch.randn(7, features, dtype=F64), LABELS), torch.randn(5, features, dtype=F64)


def by_numpy(support, query, strength, largest):
    """Return the distances ``[Q, N]`` from explicit inverses of the covariances."""
    x, y, q = support.x.numpy(), support.y.numpy(), query.numpy()
    distances = np.empty((len(q), y.max() + 1))
    for k in range(y.max() + 1):
        own = x[y == k]
        share = min(len(own) / (len(own) + 1), largest)
        spread = np.cov(own, rowvar=False) if len(own) > 1 else np.zeros((x.shape[1],) * 2)
        covariance = share * spread + (1 - share) * np.cov(x, rowvar=False) + strength * np.eye(x.shape[1])
        offset = q - own.mean(axis=0)
        distances[:, k] = np.einsum("qi,ij,qj->q", offset, np.linalg.inv(covariance), offset)
    return torch.from_numpy(distances)


# 7 examples: 14 rows of a root, fewer than 30 features and more than 4
@pytest.mark.parametrize("task", [4, 30], indirect=True)
@pytest.mark.parametrize(("strength", "largest"), [(1.0, 1.0), (0.1, 0.1), (0.01, 0.0)])
def test_is_the_definition(task, strength, largest):
    support, query = task
    logits = MahalanobisMeans(strength, largest, scale=0.5)(support, query, 3)
    torch.testing.assert_close(logits, -0.5 * by_numpy(support, query, strength, largest), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("task", [4, 30], indirect=True)
def test_padding_changes_nothing(task):
    support, query = task
    head, filler = MahalanobisMeans(), torch.full((3, support.x.shape[1]), torch.nan, dtype=F64)
    order = torch.tensor([0, 8, 3, 1, 2, 7, 4, 5, 9, 6])
    x, y = torch.cat([support.x, filler])[order], torch.cat([LABELS, torch.tensor([0, 1, 2])])[order]
    padded = labelled(x, y, order < 7)
    torch.testing.assert_close(head(padded, query, 3), head(support, query, 3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("task", [3, 16], indirect=True)
def test_has_a_derivative_under_vmap(task):
    support, query = task
    head = MahalanobisMeans(0.1, 0.1)

    def loss(x, query):
        return head(Labelled(x, LABELS), query, 3).square().sum()

    assert torch.autograd.gradcheck(loss, (support.x.requires_grad_(), query.requires_grad_()))
    tasks, queries = support.x.detach() * torch.tensor([1.0, 2.0])[:, None, None], query.detach().expand(2, -1, -1)
    together = torch.vmap(torch.func.grad(loss))(tasks, queries)
    one_by_one = torch.stack([torch.func.grad(loss)(*pair) for pair in zip(tasks, queries, strict=True)])
    torch.testing.assert_close(together, one_by_one, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("task", [40], indirect=True)
def test_close_queries_keep_their_digits(task):
    """In float32 the small difference of two large numbers would be noise."""
    support, query = task
    x, near = 1e3 * support.x, 1e3 * support.x[:4] + 1e-2 * query[:4]
    exact = by_numpy(Labelled(x, LABELS), near, 1.0, 1.0)
    single = MahalanobisMeans()(Labelled(x.float(), LABELS), near.float(), 3)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), -exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "value"), [("strength", 0.0), ("scale", float("nan")), ("largest_share", -0.1), ("largest_share", 1.1)]
)
def test_refuses_numbers_out_of_range(name, value):
    with pytest.raises(SettingError) as error:
        MahalanobisMeans(**{name: value})
    assert (error.value.name, str(error.value.value)) == (name, str(value))
