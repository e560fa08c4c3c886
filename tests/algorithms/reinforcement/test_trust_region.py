"""Trust region steps against dense matrices, on a policy small enough for them."""

from functools import partial

import lightning as L
import pytest
import torch
from torch import nn
from torch.func import grad, jacrev

from metalit.algorithms import MAMLPolicyGradient, MetaSGDPolicyGradient
from metalit.algorithms.reinforcement.trust_region import TrustRegion
from metalit.data import EnvironmentTasks
from metalit.environments import Navigation, TabularMDP
from metalit.errors import SettingError
from metalit.networks import CategoricalPolicy, GaussianPolicy

F64 = torch.float64


def learner_and_data(algorithm=MAMLPolicyGradient, **settings):
    torch.manual_seed(0)
    learner = algorithm(GaussianPolicy(nn.Linear(2, 2)), inner_lr=0.05, **settings).double()
    data = EnvironmentTasks(Navigation(horizon=8), shots=4, queries=5, tasks_per_batch=3)
    learner.prepare(data)
    return learner, data


def batch(data, count=3):
    tasks = data.make_stream("train")(0, count)
    return tasks._replace(parameters=tasks.parameters.double())


def flat(parameters):
    return torch.cat([value.flatten() for value in parameters.values()])


def unflat(vector, like):
    parts = vector.split([value.numel() for value in like.values()])
    return {name: part.reshape(value.shape) for (name, value), part in zip(like.items(), parts, strict=True)}


@pytest.fixture(params=[MAMLPolicyGradient, MetaSGDPolicyGradient])
def problem(request):
    learner, data = learner_and_data(request.param)
    learner.gathered(batch(data))
    parameters = {name: value.detach() for name, value in learner.named_parameters()}
    return learner.problem(), parameters


def divergence(problem, like, vector):
    return problem.divergence(problem.outcome(unflat(vector, like)))


def test_the_divergence_has_its_minimum_of_0_before_the_step(problem):
    problem, parameters = problem
    at = partial(divergence, problem, parameters)
    assert at(flat(parameters)).abs() < 1e-14
    assert grad(at)(flat(parameters)).abs().max() < 1e-12
    assert at(flat(parameters) + 0.1) > 1e-4


def test_products_with_the_hessian_are_those_of_the_dense_matrix(problem):
    problem, parameters = problem
    dense = jacrev(grad(partial(divergence, problem, parameters)))(flat(parameters))
    product = problem.divergence_product(parameters)
    for row in torch.eye(len(dense), dtype=F64):
        torch.testing.assert_close(flat(product(unflat(row, parameters))), dense @ row, atol=1e-10, rtol=0)


def test_the_full_step_is_the_natural_gradient_of_the_given_length(problem):
    problem, parameters = problem
    gradient = unflat(torch.randn(flat(parameters).numel(), dtype=F64), parameters)
    step = TrustRegion(
        {name: nn.Parameter(value) for name, value in parameters.items()}, lambda: problem, 0.01, steps=50, damping=1e-3
    ).change(parameters, gradient)
    dense = jacrev(grad(partial(divergence, problem, parameters)))(flat(parameters))
    matrix = dense + 1e-3 * torch.eye(len(dense), dtype=F64)
    natural = torch.linalg.solve(matrix, flat(gradient))
    expected = -natural * (0.02 / (natural @ matrix @ natural)).sqrt()
    torch.testing.assert_close(flat(step), expected, atol=1e-10, rtol=0)
    assert 0.5 * flat(step) @ matrix @ flat(step) == pytest.approx(0.01)


@pytest.mark.parametrize("most", [0.01, 1e-4])
def test_a_step_lowers_the_loss_within_the_trust_region(most):
    learner, data = learner_and_data(max_divergence=most)
    optimizer = learner.configure_optimizers()
    tasks = batch(data)

    def closure():
        optimizer.zero_grad()
        learner.gathered(tasks)
        loss = learner.problem().outcome(dict(learner.named_parameters())).loss.mean()
        loss.backward()
        return loss

    before = {name: value.detach().clone() for name, value in learner.named_parameters()}
    start = closure().item()
    optimizer.step(closure)
    problem = optimizer.problem()
    moved = {name: value.detach() for name, value in learner.named_parameters()}
    assert any((moved[name] != before[name]).any() for name in before)
    loss, found = problem.evaluate(moved)
    assert loss < start
    assert 0 < found <= most
    assert optimizer.last["divergence"] == pytest.approx(found)


def test_the_gain_is_the_fall_of_the_whole_meta_loss():
    learner, data = learner_and_data(exploration=5.0)
    optimizer, tasks = learner.configure_optimizers(), batch(data)

    def closure():
        optimizer.zero_grad()
        loss = learner.meta_loss(learner.gathered(tasks))
        loss.backward()
        return loss

    start = optimizer.step(closure).item()
    after = learner.meta_loss(learner.gathered(tasks)).item()
    assert optimizer.last["gain"] == pytest.approx(start - after, rel=1e-9)
    assert optimizer.last["gain"] > 0


def test_a_step_that_would_not_help_is_refused():
    learner, data = learner_and_data()
    optimizer = learner.configure_optimizers()
    learner.gathered(batch(data))
    before = {name: value.detach().clone() for name, value in learner.named_parameters()}

    def wrong_way():
        optimizer.zero_grad()
        loss = -learner.problem().outcome(dict(learner.named_parameters())).loss.mean()
        loss.backward()
        return loss

    optimizer.step(wrong_way)
    assert optimizer.last["step_length"] == 0
    for name, value in learner.named_parameters():
        assert torch.equal(value, before[name])


class Notes(L.Callback):
    """Notes what each step did, and what is logged of it when the next one begins."""

    def __init__(self):
        self.last, self.logged = [], []

    def on_train_batch_start(self, trainer, *_):
        names = ("divergence", "gain", "step_length")
        if trainer.global_step:
            self.last.append(trainer.optimizers[0].last)
            self.logged.append({name: trainer.callback_metrics[f"train/{name}"].item() for name in names})


def test_the_log_says_what_each_step_did(tmp_path):
    learner, data = learner_and_data(damping=1.0)
    notes = Notes()
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", max_steps=3,
        limit_val_batches=0, enable_checkpointing=False, callbacks=[notes], default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(learner.float(), data)
    assert len(notes.last) == 2
    assert notes.logged == [pytest.approx(last) for last in notes.last]
    assert notes.logged[0] != notes.logged[1]
    assert all(0 < last["divergence"] <= 0.01 and last["step_length"] > 0 for last in notes.last)


def test_a_penalty_on_the_divergence_is_not_for_trust_region_steps():
    with pytest.raises(SettingError, match=r"divergence is 0\.1, expected 0 with trust region steps"):
        learner_and_data(divergence=0.1)
    learner_and_data(divergence=0.1, max_divergence=None)


def test_what_is_experienced_depends_on_the_task_alone():
    learner, data = learner_and_data(inner_steps=2)
    together = learner.experience(batch(data), training=True)
    tasks = batch(data)
    alone = learner.experience(type(tasks)(tasks.parameters[1:2], tasks.index[1:2]), training=True)
    torch.testing.assert_close(alone.returns, together.returns[1:2], atol=1e-12, rtol=0)
    torch.testing.assert_close(alone.episode.query.x, together.episode.query.x[1:2], atol=1e-12, rtol=0)
    assert not torch.equal(together.episode.support.x[:, 0], together.episode.support.x[:, 1]), (
        "drawn anew at each step"
    )


def test_the_meta_gradient_sees_the_same_parameters_as_the_experience():
    learner, data = learner_and_data(inner_steps=2)
    episode = learner.experience(batch(data), training=True).episode
    outcome = learner(episode)
    log_probs = learner.policy.log_prob(outcome.predictions, episode.query.y.actions)
    torch.testing.assert_close(log_probs, episode.query.y.log_probs, atol=1e-10, rtol=0)


def test_a_policy_of_the_wrong_kind_is_refused():
    learner, _ = learner_and_data()
    with pytest.raises(ValueError, match=r"actions of TabularMDP are discrete.*use CategoricalPolicy"):
        learner.prepare(EnvironmentTasks(TabularMDP()))
    with pytest.raises(ValueError, match="needs a policy"):
        MAMLPolicyGradient(nn.Linear(2, 2))


def test_a_categorical_policy_learns_in_a_tabular_process():
    torch.manual_seed(0)
    learner = MAMLPolicyGradient(CategoricalPolicy(nn.Linear(3, 2)), inner_lr=1.0, eval_inner_steps=3)
    data = EnvironmentTasks(TabularMDP(3, 2, 6), shots=50, queries=50)
    learner.prepare(data)
    returns = learner.experience(data.make_stream("test")(0, 40), training=False).returns
    gain = returns[:, -1] - returns[:, 0]
    assert gain.mean() > 3 * gain.std() / 40**0.5
