"""Invariants that every policy learner must hold, over the table of policies.py."""

import inspect
from copy import deepcopy
from functools import partial

import lightning as L
import pytest
import torch
from torch.nn.utils import parameters_to_vector
from torch.utils._pytree import tree_leaves, tree_map

import metalit.algorithms
from metalit import Engine
from metalit.algorithms.reinforcement.base import PolicyLearner
from policies import POLICIES

ADAM = {"max_divergence": None, "optimizer": partial(torch.optim.Adam, lr=0.01)}
over_rows = pytest.mark.parametrize("name", POLICIES)
# every way to take an outer step: by default a trust region step, of learners that have it
OUTER = [(name, kind) for name, case in POLICIES.items() for kind in ("default", *["adam"] * case.trust_region)]
over_outer = pytest.mark.parametrize(("name", "kind"), OUTER, ids=map("-".join, OUTER))


@pytest.fixture
def float64():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def quiet_trainer(folder, **settings):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
               "enable_checkpointing": False, "inference_mode": False, "use_distributed_sampler": False,
               "default_root_dir": folder, "log_every_n_steps": 1}  # fmt: skip
    return L.Trainer(**(options | settings))


def made(name, kind="default", **settings):
    torch.manual_seed(3)
    return POLICIES[name].make(**((ADAM if kind == "adam" else {}) | settings))


def prepared(name, **settings):
    learner = made(name, **settings)
    learner.prepare(POLICIES[name].data())
    return learner


def tasks(name, split="train", first=0, count=4):
    return POLICIES[name].data().make_stream(split)(first, count)


def meta_gradient(learner, batch):
    """The gradient that a training step puts into the parameters."""
    learner.trainer = L.Trainer(logger=False, accelerator="cpu", log_every_n_steps=1000)
    loss = learner.training_step(batch, 0)
    loss.backward()
    return loss.detach(), {name: value.grad for name, value in learner.named_parameters()}


def after(name, folder, steps=2, kind="default", **settings):
    """The parameters after some steps of training, damped: else conjugate gradients amplify rounding errors."""
    learner = made(name, kind, damping=1.0, **settings)
    before = parameters_to_vector(learner.parameters()).detach().clone()
    quiet_trainer(folder, max_steps=steps, limit_val_batches=0).fit(learner, POLICIES[name].data())
    found = parameters_to_vector(learner.parameters()).detach()
    assert not torch.equal(found, before)
    return found


def test_every_exported_policy_learner_has_a_row():
    classes = [getattr(metalit.algorithms, name) for name in metalit.algorithms.__all__]
    final = {cls.__name__ for cls in classes if issubclass(cls, PolicyLearner) and not inspect.isabstract(cls)}
    assert final == set(POLICIES)


@over_outer
@pytest.mark.service
@pytest.mark.sample(3)
def test_fits_validates_and_tests(name, kind, tmp_path):
    learner, trainer = made(name, kind), quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(learner, POLICIES[name].data())
    assert trainer.global_step == 2
    names = {f"{split}/return{end}" for split in ("train", "val") for end in ("", "_before_adaptation")}
    assert {"train/loss", "train/entropy", "val/return_ci95", *names} <= set(trainer.logged_metrics)
    stepped = {f"train/{name}" for name in ("divergence", "gain", "step_length")} <= set(trainer.logged_metrics)
    assert stepped == (POLICIES[name].trust_region and kind == "default")
    trainer.test(learner, POLICIES[name].data(), verbose=False)
    assert trainer.logged_metrics["test/return"].isfinite()
    assert learner.last_evaluation.values["return"].shape == (5, POLICIES[name].stages)
    assert learner.last_evaluation.indices.tolist() == list(range(5))


ENGINES = {"vmap": Engine("vmap"), "chunked": Engine(chunk_size=3), "chunked_loop": Engine("loop", chunk_size=1)}


@over_rows
@pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)
def test_engine_settings_change_no_number(name, engine, float64):
    expected = meta_gradient(prepared(name, engine=Engine("loop")), tasks(name))
    found = meta_gradient(prepared(name, engine=engine), tasks(name))
    assert found[0].item() == pytest.approx(expected[0].item(), rel=1e-10, abs=1e-14)
    for parameter, value in expected[1].items():
        torch.testing.assert_close(found[1][parameter], value, rtol=0, atol=1e-10)


@over_rows
@pytest.mark.sample(2)
def test_engine_settings_change_no_step(name, float64, tmp_path):
    expected, found = (after(name, tmp_path, engine=engine) for engine in (Engine("loop"), Engine(chunk_size=3)))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@over_rows
def test_every_parameter_is_trained(name, float64):
    _, gradient = meta_gradient(prepared(name), tasks(name))
    assert all(value.abs().sum() > 0 for value in gradient.values())


@over_rows
def test_float64_in_float64_out(name, float64):
    learner = prepared(name)
    episode = learner.gathered(tasks(name))
    floating = [leaf for leaf in tree_leaves(episode) if leaf.is_floating_point()]
    assert {leaf.dtype for leaf in floating} == {torch.float64}
    outcome = learner(episode)
    assert outcome.loss.dtype == outcome.predictions.dtype == torch.float64


@over_rows
def test_tasks_do_not_see_each_other(name, float64):
    learner = prepared(name)
    together, _ = learner.evaluation_values(tasks(name, "test"))
    alone, _ = learner.evaluation_values(tasks(name, "test", first=2, count=1))
    torch.testing.assert_close(together["return"][2:3], alone["return"], rtol=0, atol=1e-10)


@over_rows
def test_evaluation_is_deterministic_and_changes_no_state(name, tmp_path):
    learner, data = made(name), POLICIES[name].data()
    before, returns = deepcopy(learner.state_dict()), []
    for _ in range(2):
        quiet_trainer(tmp_path).validate(learner, data, verbose=False)
        returns.append(learner.last_evaluation.values["return"])
    assert torch.equal(*returns)
    assert all(torch.equal(before[key], value) for key, value in learner.state_dict().items())


class SaveAfter(L.Callback):
    """Saves a checkpoint right after a step."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@over_outer
@pytest.mark.service
@pytest.mark.sample(3)
def test_resume_gives_the_same_next_steps(name, kind, tmp_path):
    def fit(checkpoint=None):
        L.seed_everything(0 if checkpoint is None else 1, verbose=False)
        learner = POLICIES[name].make(**(ADAM if kind == "adam" else {}))
        save = [] if checkpoint else [SaveAfter(3, tmp_path / "middle.ckpt")]
        trainer = quiet_trainer(tmp_path, max_steps=5, max_epochs=-1, callbacks=save)
        trainer.fit(learner, POLICIES[name].data(), ckpt_path=checkpoint)
        return learner.state_dict()

    straight, resumed = fit(), fit(tmp_path / "middle.ckpt")
    assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


@pytest.mark.parametrize("name", [name for name, case in POLICIES.items() if case.second_order])
def test_first_order_is_another_gradient_of_the_same_loss(name, float64):
    second = meta_gradient(prepared(name), tasks(name))
    first = meta_gradient(prepared(name, first_order=True), tasks(name))
    assert first[0].item() == pytest.approx(second[0].item(), abs=1e-14)
    one, other = (torch.cat([value.flatten() for value in each[1].values()]) for each in (first, second))
    assert (one - other).norm() > 1e-3 * other.norm()


@pytest.mark.parametrize("name", [name for name, case in POLICIES.items() if case.parts])
def test_only_what_is_chosen_adapts_and_the_rest_is_trained(name, float64):
    learner = prepared(name, adapted=["network.layers.4.*"])  # the last layer: ANIL
    episode, meta = learner.gathered(tasks(name)), learner.tensors()
    support = tree_map(lambda leaf: leaf[0], episode.support)
    adapted = learner.trajectory(meta, support, steps=2)[-1]
    assert set(adapted) == {"network.layers.4.weight", "network.layers.4.bias"}
    assert all((value - meta[f"network.{key}"]).abs().sum() > 0 for key, value in adapted.items())
    _, gradient = meta_gradient(prepared(name, adapted=["network.layers.4.*"]), tasks(name))
    assert all(value.abs().sum() > 0 for value in gradient.values())
