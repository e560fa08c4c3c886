"""Objectives against closed forms, and what all of them have in common."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.func import grad
from torch.utils._pytree import tree_map

import padding
from algorithms.test_identities import DIMENSIONS, TASKS, Linear, quadratic
from cases import CASES, DOMAINS
from metalit import MAML, Engine, Episode, Labelled, Outcome, PrototypicalNetwork
from metalit.episode import labelled
from metalit.networks import MLP
from metalit.objectives import (
    ChaserLoss,
    ConML,
    ContrastiveAdaptation,
    GradientPenalty,
    JointLoss,
    MaxMinEntropy,
    MultiStepLoss,
    QueryLoss,
    ReptileLoss,
    TaskInequality,
)
from metalit.objectives.contrastive import cosine_distances, mean_off_diagonal, random_subset
from metalit.tasks.task_context import TaskContext

ALPHA = 0.2
WEIGHTED = [
    GradientPenalty,
    ConML,
    ContrastiveAdaptation,
    MaxMinEntropy,
    TaskInequality,
    lambda weight: JointLoss(support_weight=weight),
]


def double(episode):
    return Episode(*(Labelled(part.x.double(), part.y) for part in episode[:2]), episode.index)


def meta_gradient(objective, episode, network, **settings):
    learner = MAML(network, inner_lr=ALPHA, objective=objective, **settings)
    learner.zero_grad()
    loss = learner.meta_loss(episode)
    loss.backward()
    return loss.detach(), torch.cat([parameter.grad.flatten() for parameter in network.parameters()])


@pytest.fixture
def glyphs():
    torch.manual_seed(0)
    network = DOMAINS["glyphs"].networks["predictor"]().double()
    return double(DOMAINS["glyphs"].data().episodes("train", 0, 4)), network


@pytest.fixture
def linear():
    torch.manual_seed(0)
    parts = [
        Labelled(
            torch.randn(TASKS, count, DIMENSIONS, dtype=torch.float64),
            torch.randn(TASKS, count, 1, dtype=torch.float64),
        )
        for count in (7, 9)
    ]
    return Episode(*parts, torch.arange(TASKS))


@pytest.mark.parametrize("objective", WEIGHTED)
def test_at_weight_zero_it_is_the_query_loss(objective, glyphs):
    expected = meta_gradient(QueryLoss(), *glyphs)
    found = meta_gradient(objective(weight=0.0), *glyphs)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
    other = meta_gradient(objective(weight=0.5), *glyphs)
    assert (other[1] - expected[1]).norm() > 1e-3 * expected[1].norm()


def first_gradient(domain, objective, engine):
    torch.manual_seed(3)
    learner = CASES["MAML"].make(domain, objective=objective, engine=engine).double()
    parameters, buffers = learner.meta()
    episode = tree_map(
        lambda leaf: leaf.double() if leaf.is_floating_point() else leaf,
        DOMAINS[domain].data().episodes("train", 0, 4),
    )
    gradient, loss, _ = learner.engine.compiled_meta_gradient()(
        partial(learner.task, ways=3, measure=learner.objective.measure),
        learner.objective,
        {name: value.detach() for name, value in parameters.items()},
        buffers,
        torch.arange(4),
        episode,
    )
    return loss, torch.cat([value.flatten() for value in gradient.values()])


@pytest.mark.parametrize("objective", WEIGHTED)
@pytest.mark.parametrize("engine", [Engine("vmap"), Engine(chunk_size=3)], ids=["vmap", "chunked"])
def test_engine_settings_change_no_number(objective, engine):
    found, expected = (first_gradient("glyphs", objective(weight=0.5), each) for each in (engine, Engine("loop")))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("objective", [each for each in WEIGHTED if each is not MaxMinEntropy])
@pytest.mark.sample(3)
def test_compiling_changes_no_number(objective):
    compiled = Engine(compile=True, compile_backend="aot_eager")
    found, expected = (first_gradient("sinusoid", objective(weight=0.5), each) for each in (compiled, Engine("loop")))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_joint_loss_on_quadratics(linear):
    """The meta-gradient is (I - alpha A)(w_S grad L_S + w_Q grad L_Q), taken at theta'."""
    network = Linear()
    theta, expected = network.theta.detach(), 0
    for b in range(TASKS):
        support, support_b = quadratic(linear.support.x[b], linear.support.y[b])
        query, query_b = quadratic(linear.query.x[b], linear.query.y[b])
        adapted = theta - ALPHA * (support @ theta - support_b)
        outer = 2.0 * (support @ adapted - support_b) + 3.0 * (query @ adapted - query_b)
        expected = expected + (outer - ALPHA * support @ outer) / TASKS
    _, found = meta_gradient(JointLoss(2.0, 3.0), linear, network)
    torch.testing.assert_close(found, expected.flatten())


def test_gradient_penalty_on_quadratics(linear):
    """(I - alpha A)[g + lambda B g] with g = B(theta' - b)."""
    network, weight = Linear(), 0.3
    theta, expected = network.theta.detach(), 0
    for b in range(TASKS):
        support, support_b = quadratic(linear.support.x[b], linear.support.y[b])
        query, query_b = quadratic(linear.query.x[b], linear.query.y[b])
        adapted = theta - ALPHA * (support @ theta - support_b)
        g = query @ adapted - query_b
        outer = g + weight * query @ g
        expected = expected + (outer - ALPHA * support @ outer) / TASKS
    _, found = meta_gradient(GradientPenalty(weight), linear, network)
    torch.testing.assert_close(found, expected.flatten())


def test_inequality_is_of_the_losses_before_adaptation(linear):
    network = Linear()
    found, _ = meta_gradient(TaskInequality("theil", weight=2.0), linear, network)
    before = (linear.support.x @ network.theta - linear.support.y).square().mean(dim=(1, 2))
    share = before / before.mean()
    query, _ = meta_gradient(QueryLoss(), linear, network)
    assert found.item() == pytest.approx(query.item() + 2.0 * (share * share.log()).mean().item())


def test_entropy_is_low_after_and_high_before():
    def outcome(before, after):
        entropies = {"entropy_before": torch.tensor([before]), "entropy_after": torch.tensor([after])}
        return Outcome(torch.tensor([1.0]), torch.zeros(1), measured=entropies)

    objective = MaxMinEntropy(0.5)
    assert objective(outcome(1.5, 0.2)).item() == pytest.approx(1 + 0.5 * (0.2 - 1.5))
    assert objective(outcome(1.5, 0.2)) < objective(outcome(0.5, 0.2)) < objective(outcome(0.5, 0.9))


def test_entropy_of_known_predictions():
    """A uniform head before adaptation: ln 3."""
    network = nn.Linear(4, 3)
    nn.init.zeros_(network.weight)
    nn.init.zeros_(network.bias)
    torch.manual_seed(0)
    x, y = torch.randn(2, 6, 4), torch.arange(3).repeat(2, 2)
    learner = MAML(network, inner_lr=5.0, objective=MaxMinEntropy())
    measured = learner(Episode(Labelled(x, y), Labelled(x, y), torch.arange(2))).measured
    assert measured["entropy_before"].tolist() == pytest.approx([torch.tensor(3.0).log().item()] * 2)
    assert (measured["entropy_after"] < measured["entropy_before"]).all()


def contrastive(objective, support, query):
    measured = {"from_support": support, "from_query": query}
    return objective(Outcome(torch.zeros(len(support)), torch.zeros(1), measured=measured))


def test_contrastive_hinge_by_hand():
    """Two tasks along two axes: d(a, b) = 0 and d(a, a') = 1, so the hinge is max(0, margin - 1)."""
    axes = torch.eye(2)
    assert contrastive(ContrastiveAdaptation(1.0, margin=0.9), axes, 5 * axes).item() == 0
    assert contrastive(ContrastiveAdaptation(1.0, margin=1.5), axes, 5 * axes).item() == pytest.approx(0.5)
    assert contrastive(ContrastiveAdaptation(1.0, margin=0.5), axes, axes.flip(0)).item() == pytest.approx(0.5)


def test_contrastive_terms_pull_one_task_together_and_tasks_apart():
    torch.manual_seed(0)
    shared = torch.randn(3, 8)
    own = torch.randn(3, 8)
    near, far = shared + 0.1 * own, own
    objective = ContrastiveAdaptation(1.0, margin=1.0)
    assert contrastive(objective, shared, near) < contrastive(objective, shared, far)
    apart = torch.randn(1, 8) + 0.1 * torch.randn(3, 8)  # three tasks that are nearly one
    assert contrastive(objective, shared, near) < contrastive(objective, apart, apart)


def test_distances_are_free_of_scale():
    torch.manual_seed(0)
    a, b = torch.randn(3, 8), torch.randn(4, 8)
    torch.testing.assert_close(cosine_distances(3 * a, 0.1 * b), cosine_distances(a, b))
    assert cosine_distances(a, a).diagonal().abs().max() < 1e-6
    torch.testing.assert_close(mean_off_diagonal(torch.tensor([[9.0, 1.0], [3.0, 9.0]])), torch.tensor(2.0))


def test_conml_by_hand():
    """D_in is what was measured; D_out of two tasks along two axes is 1."""
    measured = {"from_all": torch.eye(2), "inner_distance": torch.tensor([0.2, 0.4])}
    outcome = Outcome(torch.tensor([1.0, 3.0]), torch.zeros(1), measured=measured)
    assert ConML(0.5)(outcome).item() == pytest.approx(2.0 + 0.5 * (0.3 - 1.0))


def test_a_subset_of_everything_is_no_distance_away(linear):
    """With as many support examples as there are, but for the query's one, subsets differ; with all, they do not."""
    learner = MAML(Linear(), inner_lr=ALPHA, objective=ConML(1.0, of="displacement"))
    nothing = Labelled(linear.query.x[:, :0], linear.query.y[:, :0])
    all_in_support = linear._replace(query=nothing)
    distance = learner(all_in_support).measured["inner_distance"]
    torch.testing.assert_close(distance, torch.zeros_like(distance), atol=1e-10, rtol=0)
    assert (learner(linear).measured["inner_distance"] > 1e-4).all()


def test_random_subsets_have_every_class_as_often_as_the_support_set():
    support = Labelled(torch.arange(4), torch.tensor([0, 1, 2, 2]))
    everything = Labelled(torch.arange(12), torch.arange(12) % 3)
    drawn = set()
    for key in range(50):
        with TaskContext(torch.tensor(key), {}):
            subset = random_subset(everything, support)
        assert len(set(subset.x.tolist())) == 4
        assert subset.y.bincount().tolist() == [1, 1, 2]
        drawn |= set(subset.x.tolist())
    assert drawn == set(range(12))


def test_random_subsets_of_padded_sets_have_no_padding():
    support = labelled(torch.arange(6), torch.tensor([0, 1, 2, 2, 0, 0]), torch.arange(6) < 4)
    everything = labelled(torch.arange(20), torch.arange(20) % 3 * (torch.arange(20) < 12), torch.arange(20) < 12)
    drawn = set()
    for key in range(50):
        with TaskContext(torch.tensor(key), {}):
            subset = random_subset(everything, support)
        assert subset.mask.tolist() == [True] * 4 + [False] * 2
        assert len(set(subset.x[:4].tolist())) == 4
        assert subset.y[:4].bincount().tolist() == [1, 1, 2]
        drawn |= set(subset.x[:4].tolist())
    assert drawn == set(range(12))
    numbers = everything._replace(y=everything.x.float())
    with TaskContext(torch.tensor(0), {}):
        subset = random_subset(numbers, support._replace(y=support.x.float()))
    assert subset.x[subset.mask].max() < 12


PADDED = {
    "sinusoid": [GradientPenalty(), ContrastiveAdaptation(), TaskInequality(), JointLoss(), MultiStepLoss(3),
                 ChaserLoss(), ReptileLoss()],
    "glyphs": [MaxMinEntropy(0.5), ContrastiveAdaptation()],
}  # fmt: skip


@pytest.mark.parametrize(
    ("domain", "objective"),
    [
        pytest.param(domain, objective, id=f"{domain}-{type(objective).__name__}")
        for domain, objectives in PADDED.items()
        for objective in objectives
    ],
)
def test_padding_changes_no_objective(domain, objective):
    episode = padding.of_unequal_size(DOMAINS[domain].data(queries=4).episodes("train", 0, 4))
    episode = tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, episode)
    network = MLP(1, [8], 1) if domain == "sinusoid" else nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 3))
    network = network.double()
    expected, found = (meta_gradient(objective, each, network) for each in (episode, padding.padded(episode)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["LEO", "ProtoMAML", "MAML"])
@pytest.mark.parametrize("objective", [ConML(), ContrastiveAdaptation()])
def test_contrastive_losses_of_one_shot_tasks_are_finite(name, objective):
    """LEO and Proto-MAML start from class means, so every set that they learn from needs every class."""
    torch.manual_seed(0)
    episode = DOMAINS["glyphs"].data(shots=1, ways=3).episodes("train", 0, 4)
    assert CASES[name].make("glyphs", objective=objective).meta_loss(episode).isfinite()


def test_gradient_of_a_hinge_reaches_the_initialisation(linear):
    network = nn.Sequential(nn.Linear(DIMENSIONS, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    objective = ContrastiveAdaptation(1.0, margin=1.9)

    def term(outcome):
        return objective(outcome._replace(loss=torch.zeros_like(outcome.loss)))

    outcome = MAML(network, inner_lr=ALPHA, objective=objective)(linear)
    derivative = grad(term)(outcome)
    assert derivative.measured["from_support"].norm() > 0
    gradient = torch.autograd.grad(term(outcome), list(network.parameters()))
    assert all(value.norm() > 0 for value in gradient)


@pytest.mark.parametrize("objective", [TaskInequality(), ContrastiveAdaptation(), ConML()])
def test_one_task_cannot_be_compared(objective, linear):
    alone = tree_map(lambda leaf: leaf[:1], linear)
    with pytest.raises(ValueError, match=r"there is one: data\.tasks_per_batch must be >= 2"):
        MAML(Linear(), objective=objective).meta_loss(alone)


def test_what_makes_no_sense_is_refused(linear):
    with pytest.raises(ValueError, match="JointLoss uses adapted parameters"):
        PrototypicalNetwork(nn.Identity(), objective=JointLoss())
    with pytest.raises(ValueError, match="entropy of predictions needs classes"):
        MAML(Linear(), objective=MaxMinEntropy()).meta_loss(linear)
    with pytest.raises(ValueError, match="weight is -1"):
        GradientPenalty(-1)
    with pytest.raises(ValueError, match="margin is 3"):
        ContrastiveAdaptation(margin=3)
    with pytest.raises(ValueError, match="subsets is 0"):
        ConML(subsets=0)
    with pytest.raises(ValueError, match="epsilon of atkinson"):
        TaskInequality("atkinson", parameter=0)
