"""TIM-GD and alpha-TIM: the authors' loss and optimiser written out, and the methods that they are special cases of."""

import pytest
import torch
from torch import nn
from torch.func import grad, vmap

from metalit import Episode, Labelled
from metalit.algorithms import TIM, AlphaTIM, PrototypicalNetwork
from metalit.functional.entropies import entropy
from metalit.heads import InformationMaximization, SquaredEuclidean

pytestmark = pytest.mark.algorithms("TIM", "AlphaTIM")
F64 = torch.float64


def task(ways=3, shots=2, queries=4, features=5, counts=None):
    """A task of Gaussian classes, with as many queries of each class or with the given counts."""
    torch.manual_seed(0)
    centres = 2 * torch.randn(ways, features, dtype=F64)
    y, labels = (
        torch.arange(ways).repeat(shots),
        torch.arange(ways).repeat_interleave(torch.tensor(counts or [queries] * ways)),
    )
    x, q = (nn.functional.normalize(centres[k] + torch.randn(len(k), features, dtype=F64), dim=1) for k in (y, labels))
    return Labelled(x, y), Labelled(q, labels)


def by_hand(support, query, weights, alpha, steps, rate=0.01, temperature=15.0):
    """The authors' loop: their loss, torch's Adam."""
    onehot = nn.functional.one_hot(support.y).double()
    w = (onehot.mT @ support.x / onehot.sum(0)[:, None]).requires_grad_()
    optimizer = torch.optim.Adam([w], lr=rate)

    def probabilities(x):
        return (-temperature / 2 * (x[:, None] - w[None]).square().sum(-1)).softmax(1)

    def entropies(p):
        return -(p * p.log()).sum(1) if alpha == 1 else (1 - (p**alpha).sum(1)) / (alpha - 1)

    for _ in range(steps):
        p = probabilities(query.x)
        cross_entropy = -(onehot * probabilities(support.x).log()).sum(1).mean()
        loss = weights[0] * cross_entropy
        loss = loss - weights[1] * entropies(p.mean(0, keepdim=True))[0] + weights[2] * entropies(p).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return probabilities(query.x).detach()


@pytest.mark.parametrize(
    ("algorithm", "weights", "alpha"),
    [(TIM, (0.1, 1.0, 0.1), 1.0), (AlphaTIM, (1.0, 1.0, 1.0), 2.0), (AlphaTIM, (1.0, 1.0, 1.0), 7.0)],
)
def test_the_authors_loop(algorithm, weights, alpha):
    support, query = task()
    settings = {"alpha": alpha} if algorithm is AlphaTIM else {}
    learner = algorithm(nn.Identity(), features=5, learning_rate=0.01, steps=30, **settings).double()
    found = learner.adapt(support)(query.x).softmax(1)
    torch.testing.assert_close(found, by_hand(support, query, weights, alpha, steps=30), rtol=1e-6, atol=1e-8)
    unmoved = learner.head.head.logits(learner.adapt(support).state[0], query.x).softmax(1)
    assert (found - unmoved).abs().max() > 0.01


def test_default_weights_are_the_authors():
    tim, alpha_tim = TIM(nn.Identity()).head.head, AlphaTIM(nn.Identity()).head.head
    found = [(h.support_weight, h.marginal_weight, h.conditional_weight, h.alpha) for h in (tim, alpha_tim)]
    assert found == [(0.1, 1.0, 0.1, 1.0), (1.0, 1.0, 1.0, 2.0)]
    assert (tim.temperature, tim.steps, tim.adam.lr) == (15.0, 1000, 1e-4)


def test_alpha_1_is_shannons_entropy_and_its_limit():
    p = torch.rand(4, 6, dtype=F64).softmax(1)
    torch.testing.assert_close(entropy(p), torch.distributions.Categorical(p).entropy())
    torch.testing.assert_close(entropy(p, 1 + 1e-6), entropy(p), rtol=1e-5, atol=0)
    assert entropy(torch.eye(3, dtype=F64), 2.0).abs().max() == 0
    support, query = task()
    same = {"support_weight": 0.1, "conditional_weight": 0.1, "steps": 5}
    one, other = TIM(nn.Identity(), features=5, steps=5), AlphaTIM(nn.Identity(), features=5, alpha=1.0, **same)
    torch.testing.assert_close(one.double().adapt(support)(query.x), other.double().adapt(support)(query.x))


@pytest.mark.parametrize("algorithm", [TIM, AlphaTIM])
def test_without_steps_it_is_the_nearest_class_mean(algorithm):
    support, query = task()
    prototypes = PrototypicalNetwork(nn.Identity(), SquaredEuclidean(7.5), transform=["l2"], features=5).double()
    found = algorithm(nn.Identity(), features=5, steps=0).double().adapt(support)(query.x)
    torch.testing.assert_close(found, prototypes.adapt(support)(query.x))


def test_alpha_entropy_bears_unequal_queries():
    """Shannon's marginal entropy pulls towards as many predictions of each class, alpha's less (Veilleux et al.)."""
    support, query = task(counts=[20, 2, 2], shots=5)
    shares = []
    for algorithm in (TIM, AlphaTIM):
        learner = algorithm(nn.Identity(), features=5, learning_rate=0.01, steps=200).double()
        shares.append(learner.adapt(support)(query.x).softmax(1).mean(0)[0].item())
    assert shares[0] < shares[1]


def test_it_is_marked_transductive_and_runs_on_embeddings_as_they_are():
    support, query = task()
    learner = TIM(nn.Identity(), features=5, steps=3).double().eval()
    assert learner.setting()["transductive"] is True
    episode = Episode(
        Labelled(support.x[None], support.y[None]), Labelled(query.x[None], query.y[None]), torch.zeros(1).long()
    )
    torch.testing.assert_close(learner.evaluate(episode).predictions[0, 0], learner.adapt(support)(query.x))


def test_the_head_is_differentiable_with_respect_to_embeddings():
    support, query = task()
    head = InformationMaximization(steps=2, learning_rate=0.1)

    def loss(x):
        return head(support, x, 3).softmax(-1)[:, 0].sum()

    x, direction = query.x, torch.randn_like(query.x)
    expected = (loss(x + 1e-6 * direction) - loss(x - 1e-6 * direction)) / 2e-6
    torch.testing.assert_close((grad(loss)(x) * direction).sum(), expected, rtol=1e-4, atol=1e-6)
    assert vmap(loss)(torch.stack([x, x + 1])).shape == (2,)


@pytest.mark.parametrize(("name", "value"), [("temperature", 0), ("support_weight", -1), ("steps", -1), ("alpha", 0)])
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        AlphaTIM(nn.Identity(), features=5, **{name: value})
