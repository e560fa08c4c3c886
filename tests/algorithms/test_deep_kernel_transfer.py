"""Deep kernel transfer: what it is trained by, what it predicts, and padding."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import DeepKernelTransfer
from metalit.data import Sinusoid
from metalit.episode import PaddedLabelled
from metalit.heads import (
    CosineKernel,
    GaussianProcess,
    LinearKernel,
    Matern52Kernel,
    RBFKernel,
    SpectralMixtureKernel,
)
from metalit.networks import MLP, Conv4

F64 = torch.float64
KERNELS = (CosineKernel, LinearKernel, Matern52Kernel, RBFKernel, lambda: SpectralMixtureKernel(8))


def learner(kernel=RBFKernel, **settings):
    torch.manual_seed(0)
    return DeepKernelTransfer(MLP(hidden=(12,), outputs=8), kernel=kernel(), **settings).double()


@pytest.fixture
def episode():
    drawn = Sinusoid(shots=5, queries=7).episodes("test", 0, 3)
    return tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, drawn)


def of_task(episode, task):
    support, query = (Labelled(*(leaf[task] for leaf in part)) for part in (episode.support, episode.query))
    return support, query


def test_training_loss_is_the_marginal_likelihood_of_both_sets(episode):
    algorithm = learner()
    for task, loss in enumerate(algorithm(episode).loss):
        support, query = of_task(episode, task)
        x = algorithm.network(torch.cat([support.x, query.x]))
        together = Labelled(x, torch.cat([support.y, query.y]))
        torch.testing.assert_close(loss, algorithm.head.loss(together, 0))


def test_evaluation_is_the_likelihood_of_each_query(episode):
    algorithm = learner().eval()
    outcome = algorithm.evaluate(episode)
    for task in range(3):
        support, query = of_task(episode, task)
        mean, deviation = algorithm.gaussians(support, query.x)
        assert mean.shape == deviation.shape == (1, 7, 1)
        torch.testing.assert_close(outcome.predictions[task], mean)
        nll = -Normal(mean[0], deviation[0]).log_prob(query.y).mean()
        torch.testing.assert_close(outcome.loss[task, 0], nll)
        torch.testing.assert_close(outcome.measured["nll"][task, 0], nll)
        torch.testing.assert_close(outcome.measured["spread"][task, 0], deviation.mean())


def test_the_chain_rule_of_probability(episode):
    """The likelihood of both sets is that of the support set times that of one query given it."""
    algorithm = learner()
    support, query = of_task(episode, 0)
    one = Labelled(query.x[:1], query.y[:1])
    x, q = algorithm.network(support.x), algorithm.network(one.x)
    alone = 5 * algorithm.head.loss(Labelled(x, support.y), 0)
    both = 6 * algorithm.head.loss(Labelled(torch.cat([x, q]), torch.cat([support.y, one.y])), 0)
    mean, deviation = algorithm.gaussians(support, one.x)
    given = -Normal(mean[0], deviation[0]).log_prob(one.y).sum()
    torch.testing.assert_close(both - alone, given)


@pytest.mark.parametrize("kernel", KERNELS, ids=["cosine", "linear", "matern", "rbf", "spectral"])
def test_meta_gradient_over_vmap_is_that_of_the_loop(episode, kernel):
    gradients = []
    for engine in (Engine("loop"), Engine("vmap", differentiate="over")):
        algorithm = learner(kernel, engine=engine)
        algorithm.meta_loss(episode).backward()
        gradients.append({name: parameter.grad for name, parameter in algorithm.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-9, atol=1e-10, msg=name)


@pytest.mark.parametrize("train", [True, False])
def test_padding_changes_nothing(episode, train):
    """Tasks of several sizes, padded together, are those alone; what the padding holds is nothing."""
    algorithm = learner().train(train)
    sizes = torch.tensor([5, 3, 1]), torch.tensor([2, 7, 4])
    parts = []
    for part, size in zip((episode.support, episode.query), sizes, strict=True):
        mask = torch.arange(part.y.shape[1]) < size.unsqueeze(1)
        parts.append(PaddedLabelled(part.x * mask.unsqueeze(-1), part.y * mask.unsqueeze(-1), mask))
    outcome = algorithm(Episode(*parts, episode.index))
    for task in range(3):
        alone = (Labelled(*(leaf[task : task + 1, : size[task]] for leaf in part[:2]))
                 for part, size in zip(parts, sizes, strict=True))  # fmt: skip
        expected = algorithm(Episode(*alone, episode.index[task : task + 1]))
        torch.testing.assert_close(outcome.loss[task], expected.loss[0], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outcome.predictions[task, : sizes[1][task]], expected.predictions[0])


def test_several_outputs_are_independent(episode):
    algorithm = learner().eval()
    both, first = (episode._replace(support=wider(episode.support, n), query=wider(episode.query, n)) for n in (2, 1))
    torch.testing.assert_close(algorithm.evaluate(both).predictions[..., :1], algorithm.evaluate(first).predictions)


def wider(part, outputs):
    return Labelled(part.x, torch.cat([part.y, part.y.square()], dim=-1)[..., :outputs])


def test_noise_is_learned_where_asked_and_stays_above_its_bound():
    fixed, learned = learner(learn_noise=False), learner(noise=0.2, min_noise=0.1)
    assert not fixed.head.log_noise.requires_grad
    assert learned.head.noise().item() == pytest.approx(0.2)
    with torch.no_grad():
        learned.head.log_noise.fill_(-1000.0)
    assert learned.head.noise().item() == pytest.approx(0.1)


def test_a_transductive_network_embeds_the_queries_with_the_support_set():
    torch.manual_seed(0)
    algorithm = DeepKernelTransfer(Conv4(channels=4, downsample="stride", batch_norm="batch"), CosineKernel())
    support = Labelled(torch.rand(6, 1, 28, 28), torch.arange(3).repeat(2))
    queries = torch.rand(4, 1, 28, 28)
    predictor = algorithm.adapt(support)
    mean, _ = algorithm.gaussians(support, queries)
    assert mean.shape == (1, 4, 3)
    assert torch.equal(predictor(queries).argmax(dim=1), mean[0].argmax(dim=1))


def test_is_a_gaussian_process_of_the_embeddings():
    algorithm = DeepKernelTransfer(nn.Identity(), Matern52Kernel(), noise=0.3).double()
    support = Labelled(torch.randn(5, 2, dtype=F64), torch.randn(5, 1, dtype=F64))
    query = torch.randn(3, 2, dtype=F64)
    expected = GaussianProcess(Matern52Kernel(), noise=0.3).double()(support, query, 0)
    torch.testing.assert_close(algorithm.adapt(support)(query), expected)
