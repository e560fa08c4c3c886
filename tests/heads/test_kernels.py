"""Kernels against scikit-learn's, and what every kernel must satisfy."""

import pytest
import torch
from sklearn.gaussian_process.kernels import RBF, DotProduct, Matern
from sklearn.metrics.pairwise import cosine_similarity
from torch.func import vmap

from metalit.heads import CosineKernel, LinearKernel, Matern52Kernel, RBFKernel, SpectralMixtureKernel

F64 = torch.float64
KERNELS = {
    "rbf": lambda: RBFKernel(0.8, 1.7),
    "matern": lambda: Matern52Kernel(0.8, 1.7),
    "spectral": lambda: SpectralMixtureKernel(4, mixtures=3, length_scale=0.8, output_scale=1.7),
    "linear": lambda: LinearKernel(1.7),
    "cosine": lambda: CosineKernel(1.7),
}


def points(n, seed=0):
    return torch.randn(n, 4, dtype=F64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(params=KERNELS)
def kernel(request):
    torch.manual_seed(0)
    return KERNELS[request.param]().double()


@pytest.mark.parametrize(
    ("name", "reference"),
    [("rbf", RBF(0.8)), ("matern", Matern(0.8, nu=2.5)), ("linear", DotProduct(0)), ("cosine", cosine_similarity)],
)
def test_values_are_those_of_scikit_learn(name, reference):
    a, b = points(5), points(3, seed=1)
    expected = 1.7 * torch.from_numpy(reference(a.numpy(), b.numpy()))
    torch.testing.assert_close(KERNELS[name]().double()(a, b), expected, rtol=1e-7, atol=1e-7)


def test_spectral_mixture_is_the_transform_of_its_gaussians():
    """Its value at a distance is the mean of cos(2 pi w t) over frequencies w of the mixture."""
    torch.manual_seed(0)
    kernel = SpectralMixtureKernel(2, mixtures=2, length_scale=0.5).double()
    with torch.no_grad():
        kernel.shares.copy_(torch.tensor([0.0, 1.0]))
    t = torch.tensor([[0.3, -0.4]], dtype=F64)
    draws = torch.randn(2, 400_000, 2, dtype=F64)
    frequencies = kernel.means.unsqueeze(1) + kernel.log_deviations.exp().unsqueeze(1) * draws
    shares = kernel.shares.softmax(dim=0)
    # each dimension has a Gaussian that is symmetric about 0, so the transform is a product of cosines
    drawn = (shares * (2 * torch.pi * frequencies * t).cos().prod(dim=-1).mean(dim=1)).sum()
    assert kernel(t, torch.zeros(1, 2, dtype=F64)).item() == pytest.approx(drawn.item(), abs=3e-3)


def test_variance_is_the_diagonal(kernel):
    x = points(6)
    torch.testing.assert_close(kernel.variance(x), kernel(x, x).diagonal())


def test_covariance_is_symmetric_and_positive(kernel):
    covariance = kernel(points(20), points(20))
    torch.testing.assert_close(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > -1e-10


def test_distances_far_from_the_origin_keep_their_digits():
    """Close embeddings of large numbers, in single precision, in which a difference of squares would lose all."""
    a = 1000 + 0.01 * points(5).float()
    expected = RBF(0.01)(a.double().numpy())
    found = RBFKernel(0.01)(a, a)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.from_numpy(expected).float(), rtol=1e-4, atol=1e-5)


def test_gradient_where_embeddings_coincide(kernel):
    """The root in the Matérn function has none there."""
    x = torch.cat([points(3), points(3)]).requires_grad_()
    weights = torch.randn(6, 6, dtype=F64, generator=torch.Generator().manual_seed(2))
    assert torch.autograd.gradcheck(lambda x: (weights * kernel(x, x)).sum(), x)


def test_tasks_side_by_side_are_those_one_by_one(kernel):
    tasks = torch.stack([points(5, seed) for seed in range(3)])
    together = vmap(lambda x: kernel(x, x))(tasks)
    torch.testing.assert_close(together, torch.stack([kernel(x, x) for x in tasks]))


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        (RBFKernel, {"length_scale": 0.0}),
        (LinearKernel, {"output_scale": -1.0}),
        (SpectralMixtureKernel, {"features": 0}),
    ],
)
def test_impossible_numbers_are_refused(kind, settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        kind(**settings)
