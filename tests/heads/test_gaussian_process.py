"""The Gaussian process as a head, against scikit-learn's and closed forms."""

import math

import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct, Matern, PairwiseKernel
from torch.func import vmap

from metalit import Labelled
from metalit.episode import PaddedLabelled
from metalit.functional import ridge_regression
from metalit.heads import (
    CosineKernel,
    GaussianProcess,
    LinearKernel,
    Matern52Kernel,
    RBFKernel,
    SpectralMixtureKernel,
)

F64 = torch.float64
NOISE = 0.05


def double(kernel, mean=0.0, **settings):
    """A process in float64, the logarithms of its parameters included, which were rounded to float32."""
    torch.manual_seed(0)
    head = GaussianProcess(kernel, NOISE, **settings).double()
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith("log_output_scale"):
                parameter.fill_(math.log(1.7))
            if name.endswith("log_length_scale"):
                parameter.fill_(math.log(0.8))
        head.log_noise.fill_(math.log(NOISE - head.min_noise))
        head.mean.fill_(mean)
    return head


def spectral(kernel):
    """scikit-learn's kernel of any function of two points, here written point by point from the paper's formula."""
    shares, means = kernel.shares.softmax(dim=0).detach().numpy(), kernel.means.detach().numpy()
    deviations = kernel.log_deviations.exp().detach().numpy()

    def one(a, b, gamma=None):
        total = 0.0
        for share, mean, deviation in zip(shares, means, deviations, strict=True):
            product = share
            for t, mu, sigma in zip(a - b, mean, deviation, strict=True):
                product *= math.exp(-2 * math.pi**2 * t**2 * sigma**2) * math.cos(2 * math.pi * t * mu)
            total += product
        return total

    return PairwiseKernel(metric=one)


KERNELS = {
    "rbf": (RBFKernel, lambda _: RBF(0.8)),
    "matern": (Matern52Kernel, lambda _: Matern(0.8, nu=2.5)),
    "linear": (LinearKernel, lambda _: DotProduct(1e-10)),
    "cosine": (CosineKernel, lambda _: PairwiseKernel(metric="cosine")),
    "spectral": (lambda: SpectralMixtureKernel(4, mixtures=3), spectral),
}


@pytest.fixture
def task():
    generator = torch.Generator().manual_seed(1)
    support = (torch.randn(9, width, dtype=F64, generator=generator) for width in (4, 2))
    return Labelled(*support), torch.randn(6, 4, dtype=F64, generator=generator)


def padded(examples, places=3):
    x = torch.cat([examples.x, torch.full((places, examples.x.shape[1]), torch.nan, dtype=F64)])
    y = torch.cat([examples.y, torch.zeros(places, *examples.y.shape[1:], dtype=examples.y.dtype)])
    return PaddedLabelled(x, y, torch.arange(len(y)) < len(examples.y))


@pytest.mark.parametrize("name", KERNELS)
def test_likelihood_and_predictions_are_those_of_scikit_learn(name, task):
    support, query = task
    kind, reference = KERNELS[name]
    head = double(kind(), mean=0.3)
    expected = GaussianProcessRegressor(ConstantKernel(1.7) * reference(head.kernel), alpha=NOISE, optimizer=None).fit(
        support.x.numpy(), support.y.numpy() - 0.3
    )
    mean, deviation = expected.predict(query.numpy(), return_std=True)

    total = 9 * head.loss(support, 0)
    assert total.item() == pytest.approx(-expected.log_marginal_likelihood_value_, rel=1e-8, abs=1e-8)
    found, variance = head.predictive(head.fit(support, 0), query)
    torch.testing.assert_close(found, torch.from_numpy(mean) + 0.3, rtol=1e-8, atol=1e-8)
    # scikit-learn's is that of the process, without noise
    without_noise = torch.from_numpy(deviation[:, 0] ** 2)
    torch.testing.assert_close(variance - NOISE, without_noise, rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(head(support, query, 0), found)


def test_likelihood_is_that_of_a_normal_distribution(task):
    support, _ = task
    head = double(Matern52Kernel(), mean=0.3)
    covariance = head.kernel(support.x, support.x) + NOISE * torch.eye(9, dtype=F64)
    normal = torch.distributions.MultivariateNormal(torch.full((9,), 0.3, dtype=F64), covariance)
    torch.testing.assert_close(head.loss(support, 0), -normal.log_prob(support.y.T).sum() / 9)


def test_a_linear_kernel_is_bayesian_ridge_regression(task):
    """Weights have the variance of the kernel's scale: the ridge's lambda is the noise over it."""
    support, query = task
    head = double(LinearKernel())
    mean, variance = head.predictive(head.fit(support, 0), query)
    torch.testing.assert_close(mean, query @ ridge_regression(support.x, support.y, NOISE / 1.7))
    precision = support.x.T @ support.x / NOISE + torch.eye(4, dtype=F64) / 1.7
    uncertain = (query @ precision.inverse() * query).sum(dim=1)
    torch.testing.assert_close(variance, uncertain + NOISE)


def test_without_noise_the_mean_goes_through_the_points(task):
    support, _ = task
    head = GaussianProcess(RBFKernel(), noise=1e-10, min_noise=0.0).double()
    torch.testing.assert_close(head(support, support.x, 0), support.y, rtol=1e-6, atol=1e-6)


def test_logits_are_the_posterior_of_the_codes(task):
    """Bayes' rule over the N codes with one 1 and otherwise -1, by the densities of independent Gaussians."""
    support = Labelled(task[0].x, torch.arange(3).repeat(3))
    head = double(RBFKernel(), mean=-0.2)
    mean, variance = head.predictive(head.fit(support, 3), task[1])
    codes = 2 * torch.eye(3, dtype=F64) - 1
    normal = torch.distributions.Normal(mean.unsqueeze(1), variance.sqrt().reshape(-1, 1, 1))
    expected = normal.log_prob(codes).sum(dim=-1).log_softmax(dim=-1)
    torch.testing.assert_close(head(support, task[1], 3).log_softmax(dim=-1), expected)
    labels = Labelled(support.x, 2.0 * torch.nn.functional.one_hot(support.y).double() - 1)
    torch.testing.assert_close(head.loss(support, 3), head.loss(labels, 0))
    torch.testing.assert_close(mean, head(labels, task[1], 0))


@pytest.mark.parametrize("ways", [0, 3])
def test_padding_changes_nothing(task, ways):
    support, query = task
    if ways:
        support = Labelled(support.x, torch.arange(3).repeat(3))
    head = double(Matern52Kernel(), mean=0.3)
    for one, other in zip(
        head.predictive(head.fit(padded(support), ways), query),
        head.predictive(head.fit(support, ways), query),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-13)
    gradients = []
    for examples in (support, padded(support)):
        x = examples.x.clone().requires_grad_()
        loss = head.loss(examples._replace(x=x), ways)
        gradients.append((loss, *torch.autograd.grad(loss, [x, *head.parameters()])))
    loss, gradient, *others = gradients[1]
    assert torch.equal(gradient[9:], torch.zeros(3, 4, dtype=F64))
    for one, other in zip([loss, gradient[:9], *others], gradients[0], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", KERNELS)
def test_gradient_over_vmap_is_that_of_the_loop(task, name):
    head = double(KERNELS[name][0]())
    x = torch.stack([task[0].x, 2 * task[0].x.flip(0)]).requires_grad_()
    y = torch.stack([task[0].y, task[0].y + 1])
    parameters = [parameter for parameter in head.parameters() if parameter.requires_grad]
    together = vmap(lambda x, y: head.loss(Labelled(x, y), 0))(x, y)
    alone = torch.stack([head.loss(Labelled(*one), 0) for one in zip(x, y, strict=True)])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
    for one, other in zip(
        torch.autograd.grad(together.sum(), [x, *parameters]),
        torch.autograd.grad(alone.sum(), [x, *parameters]),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_covariance_that_is_not_positive_gives_nan(task):
    support, query = task
    head = GaussianProcess(RBFKernel(), noise=1e-300, min_noise=0.0).double()
    twice = Labelled(support.x[:1].repeat(3, 1), support.y[:1].repeat(3, 1))
    assert head.loss(twice, 0).isnan()
    assert head(twice, query, 0).isnan().all()


def test_single_precision_is_solved_in_double(task):
    """A long length scale makes the covariance nearly singular."""
    head = GaussianProcess(RBFKernel(length_scale=20.0), noise=1e-5, min_noise=1e-6)
    support, query = (torch.float32, *task)[1:]
    exact = head.double()(support, query, 0)
    found = head.float()(Labelled(support.x.float(), support.y.float()), query.float(), 0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact.float(), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("settings", [{"noise": 0.0}, {"noise": 1e-5}, {"min_noise": -1.0}])
def test_impossible_numbers_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        GaussianProcess(RBFKernel(), **settings)
