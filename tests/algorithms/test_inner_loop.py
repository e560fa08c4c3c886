"""What every gradient-based algorithm offers: checkpointed inner steps, other numbers of steps in evaluation."""

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from algorithms.test_battery import assert_same_gradient, double, learner, meta_gradient
from cases import CASES
from metalit import Engine
from metalit.algorithms import (
    FOML,
    IMAML,
    MAML,
    PLATIPUS,
    BayesianMAML,
    GradientBasedMetaLearner,
    MAMLPlusPlus,
    MetaCurvature,
    MetaSGD,
    Reptile,
)
from metalit.networks import MLP
from metalit.tasks.parameters import matching

ROWS = [
    (name, domain)
    for name, case in CASES.items()
    for domain in case.learning
    if issubclass(case.algorithm, GradientBasedMetaLearner)
]
over_rows = pytest.mark.parametrize(("name", "domain"), ROWS)


@over_rows
@pytest.mark.parametrize("mapping", ["vmap", "loop"])
@pytest.mark.sample(5)
def test_checkpointing_changes_no_number(name, domain, mapping):
    episode, engine = double(domain), Engine(mapping)
    expected = meta_gradient(learner(name, domain, engine=engine), episode)
    found = meta_gradient(learner(name, domain, engine=engine, checkpoint_steps=True), episode)
    assert_same_gradient(found, expected)


@over_rows
def test_evaluation_may_take_other_steps_than_training(name, domain):
    algorithm, episode = learner(name, domain, eval_inner_steps=4).eval(), double(domain)
    outcome = algorithm.evaluate(episode)
    assert outcome.loss.shape == (4, 5)
    assert outcome.loss.isfinite().all()
    assert algorithm.setting()["inner_steps"] == 4


def test_checkpointing_keeps_dropout_and_running_statistics():
    def make(**settings):
        return learner("MAML", "glyphs", dropout=0.3, **settings)

    episode = double("glyphs")
    assert_same_gradient(meta_gradient(make(checkpoint_steps=True), episode), meta_gradient(make(), episode))


def test_checkpointing_and_compiling_exclude_one_another():
    with pytest.raises(ValueError, match=r"checkpoint_steps does not go with engine\.compile"):
        MAML(MLP(), checkpoint_steps=True, engine=Engine(compile=True))


def test_patterns_with_an_exclamation_mark_leave_out():
    names = ["body.0.weight", "body.0.bias", "head.weight"]
    assert matching(names, ["*", "!head.*"]) == names[:2]
    assert matching(names, ["!*.bias", "*"]) == [names[0], names[2]]
    with pytest.raises(ValueError, match="'!tail' matches none"):
        matching(names, ["*", "!tail"])
    with pytest.raises(ValueError, match="leave no parameter"):
        matching(names, ["head.*", "!head.*"])


def test_first_order_is_what_a_result_says():
    assert MAML(MLP()).setting()["first_order"] is False
    assert MAML(MLP(), first_order=True).setting()["first_order"] is True
    assert MAML(MLP(), eval_inner_steps=0).steps_in_evaluation() == 0


FREEZABLE = [MAML, MetaSGD, MetaCurvature, MAMLPlusPlus, BayesianMAML, PLATIPUS]


def frozen_mlp():
    torch.manual_seed(0)
    network = MLP(hidden=(6,)).double()
    network.layers[0].requires_grad_(False)
    return network


@pytest.mark.parametrize("algorithm", FREEZABLE)
def test_a_frozen_layer_never_moves_in_the_inner_loop(algorithm):
    network = frozen_mlp()
    maker = algorithm(network, inner_lr=0.1, inner_steps=3)
    maker.double()
    assert maker.adapted_names == ["layers.2.weight", "layers.2.bias"]
    assert not any("layers/0" in name for name, _ in maker.update_rule.named_parameters())
    episode = double("sinusoid")
    support = episode.support._replace(x=episode.support.x[0], y=episode.support.y[0])
    with maker.context():
        path = maker.trajectory(maker.tensors(), support, 3)
    assert set(path[-1]) <= {"layers.2.weight", "layers.2.bias"} | {"kl"}
    assert not torch.equal(path[-1]["layers.2.bias"], path[0]["layers.2.bias"])


def test_the_meta_gradient_is_that_of_steps_which_leave_the_frozen_layer():
    """An oracle by torch.autograd, one task at a time."""
    network, episode = frozen_mlp(), double("sinusoid")
    _, found = meta_gradient(MAML(network, inner_lr=0.1, inner_steps=2).double(), episode)
    frozen = {name: value for name, value in network.named_parameters() if not value.requires_grad}
    start = {name: value for name, value in network.named_parameters() if value.requires_grad}

    def loss(parameters, x, y):
        return torch.nn.functional.mse_loss(functional_call(network, {**frozen, **parameters}, (x,)), y)

    def task(parameters, b):
        adapted = parameters
        for _ in range(2):
            slope = grad(loss)(adapted, episode.support.x[b], episode.support.y[b])
            adapted = {name: value - 0.1 * slope[name] for name, value in adapted.items()}
        return loss(adapted, episode.query.x[b], episode.query.y[b])

    expected = grad(lambda parameters: sum(task(parameters, b) for b in range(4)) / 4)(start)
    for name, value in expected.items():
        torch.testing.assert_close(found[f"network.{name}"], value, rtol=1e-10, atol=1e-12)
    assert all(found[f"network.{name}"] is None for name in frozen)


def test_a_layer_that_is_frozen_later_stays_too():
    network = MLP(hidden=(6,))
    learner = MAML(network)
    network.layers[0].requires_grad_(False)
    assert learner.adapted_names == ["layers.2.weight", "layers.2.bias"]


def test_patterns_that_name_a_frozen_parameter_are_refused():
    with pytest.raises(ValueError, match=r"'layers\.0\.\*' lets layers\.0\.weight, layers\.0\.bias adapt"):
        MAML(frozen_mlp(), adapted=["layers.0.*"])
    assert MAML(frozen_mlp(), adapted=["*", "!layers.0.*"]).adapted_names[0] == "layers.2.weight"
    with pytest.raises(ValueError, match="all are frozen"):
        MAML(frozen_mlp().requires_grad_(False))


@pytest.mark.parametrize("algorithm", [MAML, IMAML, Reptile, FOML])
def test_torchs_own_batch_norm_stands_in_any_inner_loop(algorithm):
    episode = double("glyphs")

    def make(engine):
        torch.manual_seed(0)
        convolution = nn.Conv2d(1, 4, 3, stride=4)
        body = nn.Sequential(convolution, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 7 * 7, 3))
        sgd = {"inner_optimizer": "sgd"} if algorithm in (Reptile, FOML) else {}  # Adam's steps are signs
        return algorithm(body, inner_lr=0.05, inner_steps=2, engine=engine, **sgd).double()

    expected = meta_gradient(make(Engine("loop")), episode)
    for engine in (Engine(), Engine(differentiate="over"), Engine(chunk_size=3)):
        assert_same_gradient(meta_gradient(make(engine), episode), expected)
    outcome = make(Engine())(episode)
    assert (outcome.buffers["network.1.running_mean"] != 0).all()
