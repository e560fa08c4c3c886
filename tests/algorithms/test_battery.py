"""Invariants that every algorithm must hold, over the table of cases."""

from copy import deepcopy
from fnmatch import fnmatchcase
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.utils import parameters_to_vector
from torch.utils._pytree import tree_map

import metalit.algorithms
import padding
from cases import CASES, DOMAINS, cancelled
from metalit import Engine, Labelled
from metalit.algorithms import MetaLearner
from metalit.errors import UserError
from metalit.functional.masks import real_examples
from metalit.heads import FullContext
from policies import POLICIES

# in the default suite most algorithms have their first domain alone
BOTH = {"MAML", "PLATIPUS"}
SECOND = {"MAMLPlusPlus", "SNAIL"}  # images instead: their batch norms are what is special
# of each family one, for what all algorithms have from their base class
REPRESENTATIVES = {
    "MAML": "sinusoid",
    "PrototypicalNetwork": "glyphs",
    "SNAIL": "glyphs",
    "MetaGANMAML": "glyphs",
    "ConditionalNeuralProcess": "sinusoid",
}


def rows():
    """Every row with whether it is left to the slow tests: one of an algorithm's two domains is, of most."""
    return [
        (name, domain, name not in BOTH and number != (name in SECOND))
        for name, case in CASES.items()
        for number, domain in enumerate(case.learning)
    ]


over_rows = pytest.mark.parametrize(
    ("name", "domain"),
    [
        pytest.param(name, domain, marks=[pytest.mark.slow] if slow else [], id=f"{name}-{domain}")
        for name, domain, slow in rows()
    ],
)


def rows_by_masks(honoured):
    """The rows of methods that learn tasks of unequal size, or of those that refuse them."""
    return [
        pytest.param(name, domain, marks=[pytest.mark.slow] if slow else [], id=f"{name}-{domain}")
        for name, domain, slow in rows()
        if CASES[name].honours_masks == honoured
    ]


over_representatives = pytest.mark.parametrize(
    ("name", "domain"), REPRESENTATIVES.items(), ids=map("-".join, REPRESENTATIVES.items())
)
representatives_first = pytest.mark.parametrize(
    ("name", "domain"),
    [
        pytest.param(
            name,
            domain,
            marks=[] if REPRESENTATIVES.get(name) == domain else [pytest.mark.slow],
            id=f"{name}-{domain}",
        )
        for name, domain, _ in rows()
    ],
)


def double(domain, split="train", **settings):
    """Four episodes of a domain in float64."""
    episode = DOMAINS[domain].data(**settings).episodes(split, 0, 4)
    return tree_map(lambda leaf: leaf.double() if leaf.is_floating_point() else leaf, episode)


def episodes(name, domain, split="train"):
    """Four episodes for a row in float64."""
    return double(domain, split, **CASES[name].data_settings)


def learner(name, domain, **settings):
    torch.manual_seed(3)
    return CASES[name].make(domain, **settings).double()


def meta_gradient(algorithm, episode):
    """The gradient that a training step puts into the parameters, with dropout keys fixed; None for frozen ones."""
    torch.manual_seed(4)
    algorithm.trainer = L.Trainer(logger=False, accelerator="cpu", log_every_n_steps=1000)
    loss = algorithm.training_step(episode, 0)
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in algorithm.named_parameters()}


def assert_same_gradient(one, other, tolerance=1e-10):
    assert one[0].item() == pytest.approx(other[0].item(), rel=tolerance)
    assert one[1].keys() == other[1].keys()
    frozen = {name for name, gradient in other[1].items() if gradient is None}
    assert all(one[1][parameter] is None for parameter in frozen)
    trained = other[1].keys() - frozen
    scale = torch.cat([other[1][parameter].flatten() for parameter in trained]).norm()
    for parameter in trained:
        assert (one[1][parameter] - other[1][parameter]).norm() <= tolerance * scale, parameter


def quiet_trainer(folder, **settings):
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
               "enable_checkpointing": False, "inference_mode": False, "use_distributed_sampler": False,
               "default_root_dir": folder, "log_every_n_steps": 1}  # fmt: skip
    return L.Trainer(**(options | settings))


def test_every_exported_algorithm_has_a_row():
    final = {
        name
        for name in metalit.algorithms.__all__
        if issubclass(getattr(metalit.algorithms, name), MetaLearner)
        and not getattr(metalit.algorithms, name).__abstractmethods__
    }
    assert final == set(CASES) | set(POLICIES)


def test_every_family_is_represented():
    def families(names):
        return {CASES[name].algorithm.__module__.split(".")[2] for name in names}

    assert families(REPRESENTATIVES) == families(CASES)
    assert all(domain in CASES[name].learning for name, domain in REPRESENTATIVES.items())


@over_rows
@pytest.mark.service
@pytest.mark.sample(6)
def test_fits_validates_and_tests(name, domain, tmp_path):
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    algorithm, data = CASES[name].make(domain), CASES[name].data(domain)
    trainer.fit(algorithm, data)
    metric = "mse" if domain == "sinusoid" else "accuracy"
    assert trainer.global_step == 4
    assert {"train/loss", f"train/{metric}", f"val/{metric}", f"val/{metric}_ci95"} <= set(trainer.logged_metrics)
    trainer.test(algorithm, data, verbose=False)
    assert trainer.logged_metrics[f"test/{metric}"].isfinite()
    assert algorithm.last_evaluation.indices.tolist() == list(range(5))


@pytest.mark.learns
@over_rows
@pytest.mark.sample(20)
def test_learns(name, domain):
    case = CASES[name]
    target = case.learning[domain]
    torch.manual_seed(0)
    algorithm = case.make(domain)
    data = CASES[name].data(domain, tasks_per_batch=8)
    optimizer = torch.optim.Adam(algorithm.parameters(), lr=target.learning_rate)
    algorithm.trainer = L.Trainer(logger=False, accelerator="cpu", log_every_n_steps=10**9)
    for step in range(target.steps):
        optimizer.zero_grad()
        algorithm.training_step(data.episodes("train", 8 * step, 8), step).backward()
        algorithm.on_before_optimizer_step(optimizer)
        optimizer.step()
    losses = algorithm.eval().evaluate(data.episodes("test", 0, 100)).loss.mean(dim=0)
    assert losses[-1] < target.loss_below
    if case.adapts and case.gains:
        assert losses[-1] < losses[0]


@over_rows
@pytest.mark.sample(2)
def test_query_labels_never_reach_predictions(name, domain):
    algorithm, episode = learner(name, domain).eval(), episodes(name, domain)
    shuffled = Labelled(episode.query.x, episode.query.y.flip(1))
    with_labels, without = algorithm(episode), algorithm(episode._replace(query=shuffled))
    assert torch.equal(with_labels.predictions, without.predictions)
    assert not torch.equal(with_labels.loss, without.loss)


@over_rows
def test_support_labels_do(name, domain):
    algorithm, episode = learner(name, domain).eval(), episodes(name, domain, "test")
    flipped = episode._replace(support=Labelled(episode.support.x, episode.support.y.flip(1)))
    one, other = (algorithm.evaluate(e).predictions[:, -1] for e in (episode, flipped))
    assert not torch.allclose(one, other, rtol=1e-4)


@over_rows
@pytest.mark.sample(2)
def test_order_of_the_support_set_changes_nothing(name, domain):
    algorithm, episode = learner(name, domain).eval(), episodes(name, domain)
    order = torch.randperm(episode.support.y.shape[1], generator=torch.Generator().manual_seed(1))
    reordered = episode._replace(support=Labelled(*(leaf[:, order] for leaf in episode.support)))
    same = torch.allclose(algorithm(episode).predictions, algorithm(reordered).predictions, rtol=0, atol=1e-10)
    assert same or CASES[name].order_matters


@over_rows
@pytest.mark.sample(2)
def test_tasks_do_not_see_each_other(name, domain):
    algorithm, episode = learner(name, domain).eval(), episodes(name, domain)
    alone = algorithm(tree_map(lambda leaf: leaf[1:2], episode))
    torch.testing.assert_close(algorithm(episode).predictions[1:2], alone.predictions, rtol=0, atol=1e-10)


@over_rows
@pytest.mark.sample(2)
def test_adapting_and_evaluating_change_no_state(name, domain, tmp_path):
    algorithm = CASES[name].make(domain)
    data = CASES[name].data(domain)
    before = deepcopy(algorithm.state_dict())
    quiet_trainer(tmp_path).validate(algorithm, data, verbose=False)
    episode = data.episodes("test", 0, 1)
    predictor = algorithm.adapt(tree_map(lambda leaf: leaf[0], episode.support))
    predictor(episode.query.x[0])
    algorithm.train()
    algorithm(episode)
    algorithm.adapt(tree_map(lambda leaf: leaf[0], episode.support))(episode.query.x[0])
    after = algorithm.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@over_rows
def test_adapted_predictor_equals_the_last_stage_of_evaluation(name, domain):
    algorithm, episode = learner(name, domain).eval(), episodes(name, domain, "test")
    predictor = algorithm.adapt(tree_map(lambda leaf: leaf[2], episode.support))
    expected = algorithm.evaluate(episode).predictions[2, -1]
    torch.testing.assert_close(predictor(episode.query.x[2]), expected, rtol=0, atol=1e-10)


ENGINES = {
    "vmap": Engine("vmap"),
    "chunked": Engine(chunk_size=3),
    "chunked_loop": Engine("loop", chunk_size=1),
    "compiled": Engine(compile=True, compile_backend="aot_eager"),
}


def rows_with_engines():
    for name, domain, slow in rows():
        for kind, engine in ENGINES.items():
            rare = kind == "compiled" and (name, domain) != ("MAML", "sinusoid")
            marks = [pytest.mark.slow] if slow or rare else []
            yield pytest.param(name, domain, engine, marks=marks, id=f"{name}-{domain}-{kind}")


@pytest.mark.parametrize(("name", "domain", "engine"), list(rows_with_engines()))
@pytest.mark.sample(5)
def test_engine_settings_change_no_number(name, domain, engine):
    episode = episodes(name, domain)
    expected = meta_gradient(learner(name, domain, engine=Engine("loop")), episode)
    assert_same_gradient(meta_gradient(learner(name, domain, engine=engine), episode), expected)


@over_rows
@pytest.mark.sample(2)
def test_training_step_carries_the_gradient_of_meta_loss(name, domain):
    episode = episodes(name, domain)
    algorithm = learner(name, domain)
    torch.manual_seed(4)  # as in meta_gradient
    loss = algorithm.meta_loss(episode)
    loss.backward()
    expected = loss.detach(), {key: parameter.grad for key, parameter in algorithm.named_parameters()}
    idle = CASES[name].without_gradient
    learned = [key for key in expected[1] if not any(fnmatchcase(key, pattern) for pattern in idle)]
    nothing = set() if CASES[name].compares_weights else cancelled(algorithm)
    learned = [key for key in learned if key not in nothing]
    assert all(expected[1][key].abs().max() < 1e-10 for key in nothing if expected[1][key] is not None)
    assert all(expected[1][key].abs().sum() > 0 for key in learned)
    assert_same_gradient(meta_gradient(learner(name, domain), episode), expected)


over_rows_with_masks = pytest.mark.parametrize(("name", "domain"), rows_by_masks(True))


def padded_learner(name, domain, **settings):
    """A learner of padded episodes: without batch norm, and without dropout, which draws for padding too."""
    algorithm = learner(name, domain, group_norm=True, **settings)
    for module in algorithm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return algorithm


@over_rows
def test_a_row_says_whether_the_method_honours_masks(name, domain):
    assert learner(name, domain).honours_masks == CASES[name].honours_masks


@over_rows_with_masks
@pytest.mark.sample(3)
def test_padding_changes_no_gradient(name, domain):
    episode = padding.of_unequal_size(episodes(name, domain))
    expected = meta_gradient(padded_learner(name, domain), episode)
    assert_same_gradient(meta_gradient(padded_learner(name, domain), padding.padded(episode)), expected)


@over_rows_with_masks
@pytest.mark.sample(2)
def test_padding_changes_no_evaluation(name, domain):
    episode = padding.of_unequal_size(episodes(name, domain, "test"))
    algorithm = padded_learner(name, domain).eval()
    expected, found = algorithm.evaluate(episode), algorithm.evaluate(padding.padded(episode))
    torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.measured, expected.measured, rtol=0, atol=1e-10)
    for task, real in enumerate(episode.query.mask):
        one, other = (outcome.predictions[task][:, : len(real)][:, real] for outcome in (found, expected))
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)


@over_rows_with_masks
@pytest.mark.sample(3)
def test_masks_without_padding_change_nothing(name, domain):
    episode = episodes(name, domain, "test")
    algorithm = padded_learner(name, domain, **CASES[name].without_draws).eval()
    expected, found = algorithm.evaluate(episode), algorithm.evaluate(padding.with_mask(episode))
    torch.testing.assert_close(found.loss, expected.loss, rtol=0, atol=1e-10)
    torch.testing.assert_close(found.predictions, expected.predictions, rtol=0, atol=1e-10)


@over_rows_with_masks
@pytest.mark.sample(3)
def test_adapting_leaves_padding_out(name, domain):
    episode = padding.of_unequal_size(episodes(name, domain, "test"))
    algorithm = padded_learner(name, domain, **CASES[name].without_draws).eval()
    support, query = (tree_map(lambda leaf: leaf[1], part) for part in episode[:2])
    found = algorithm.adapt(support)(real_examples(query).x)
    expected = algorithm.evaluate(episode).predictions[1, -1][query.mask]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)


@over_rows_with_masks
@pytest.mark.sample(3)
def test_engine_settings_change_no_number_of_a_padded_episode(name, domain):
    episode = padding.of_unequal_size(episodes(name, domain))
    loop, vmapped = (padded_learner(name, domain, engine=Engine(kind)) for kind in ("loop", "vmap"))
    assert_same_gradient(meta_gradient(vmapped, episode), meta_gradient(loop, episode))


@pytest.mark.parametrize(("name", "domain"), rows_by_masks(False))
def test_padding_is_refused_by_name(name, domain):
    episode = padding.with_mask(episodes(name, domain))
    for use in (MetaLearner.meta_loss, MetaLearner.evaluate, MetaLearner.forward, meta_gradient):
        with pytest.raises(UserError, match=f"^{name} .*unequal size.*MAML"):
            use(learner(name, domain, group_norm=True), episode)


def test_padding_is_refused_by_name_with_settings_that_read_the_whole_support_set():
    algorithm = learner("MatchingNetwork", "glyphs", group_norm=True, full_context=FullContext(8))
    with pytest.raises(UserError, match=r"^MatchingNetwork with these settings .*unequal size"):
        algorithm.meta_loss(padding.with_mask(episodes("MatchingNetwork", "glyphs")))


@pytest.mark.parametrize("name", ["MAML", "PrototypicalNetwork", "LSTMMetaLearner"])
def test_padding_is_refused_where_a_batch_norm_would_count_it(name):
    episode = padding.with_mask(episodes(name, "glyphs"))
    for use in (MetaLearner.meta_loss, meta_gradient):
        with pytest.raises(UserError, match=f"batch norm network.* of {name} .*frozen_batch_norm"):
            use(learner(name, "glyphs"), episode)


@pytest.mark.parametrize("settings", [{"checkpoint_steps": True}, {"engine": ENGINES["compiled"]}], ids=str)
def test_a_padded_episode_is_recomputed_and_compiled_as_any_other(settings):
    episode = padding.of_unequal_size(episodes("MAML", "sinusoid"))
    expected, found = (meta_gradient(learner("MAML", "sinusoid", **each), episode) for each in ({}, settings))
    assert_same_gradient(found, expected)


def test_padding_changes_nothing_where_batch_norms_are_frozen():
    episode = padding.of_unequal_size(episodes("PrototypicalNetwork", "glyphs"))
    expected, found = (
        meta_gradient(learner("PrototypicalNetwork", "glyphs", frozen_batch_norm=["*"]), each)
        for each in (episode, padding.padded(episode))
    )
    assert_same_gradient(found, expected)


class SaveAfter(L.Callback):
    """Saves a checkpoint right after a step, as a run does: Lightning counts an epoch that was broken off as done."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


@over_rows
@pytest.mark.service
@pytest.mark.sample(6)
def test_resume_gives_the_same_next_step(name, domain, tmp_path):
    def fit(checkpoint=None):
        L.seed_everything(0 if checkpoint is None else 1, verbose=False)
        algorithm = CASES[name].make(domain, dropout=0.2)
        save = [] if checkpoint else [SaveAfter(3, tmp_path / "middle.ckpt")]
        trainer = quiet_trainer(tmp_path, max_steps=5, max_epochs=-1, callbacks=save)
        trainer.fit(algorithm, CASES[name].data(domain), ckpt_path=checkpoint)
        return algorithm

    straight, resumed = fit(), fit(tmp_path / "middle.ckpt")
    one, other = straight.state_dict(), resumed.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


@over_rows
def test_float64_in_float64_out(name, domain):
    outcome = learner(name, domain)(episodes(name, domain))
    assert outcome.loss.dtype == outcome.predictions.dtype == torch.float64


def change(name, domain, folder, **settings):
    """The change of all parameters in a few steps, mapped by a loop: vmapped convolutions skip a CPU's autocast."""
    torch.manual_seed(0)
    sgd = partial(torch.optim.SGD, lr=0.003)
    algorithm = CASES[name].make(domain, optimizer=sgd, engine=Engine("loop"))
    before = parameters_to_vector(algorithm.parameters()).detach().clone()
    quiet_trainer(folder, max_steps=5, max_epochs=-1, limit_val_batches=0, **settings).fit(
        algorithm, CASES[name].data(domain)
    )
    assert all(parameter.dtype == torch.float32 for parameter in algorithm.parameters())
    return parameters_to_vector(algorithm.parameters()).detach() - before


def float16():
    """Lightning has no 16-mixed on a CPU by itself."""
    return MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=2.0**10))


PRECISIONS = {
    "bfloat16": ({"precision": "bf16-mixed"}, 0.5, 0.9),
    "float16": ({"plugins": float16}, 0.3, 0.95),
}


def rows_with_precisions():
    """Every row in bfloat16; in float16, which loss scaling makes longer, most in the slow tests."""
    for name, domain, slow in rows():
        for kind in PRECISIONS:
            marks = [pytest.mark.slow] if slow or (kind == "float16" and name not in BOTH) else []
            yield pytest.param(name, domain, kind, marks=marks, id=f"{name}-{domain}-{kind}")


@pytest.mark.parametrize(("name", "domain", "kind"), list(rows_with_precisions()))
@pytest.mark.service
@pytest.mark.sample(12)
def test_mixed_precision_goes_where_float32_goes(name, domain, kind, tmp_path):
    settings, distance, cosine = PRECISIONS[kind]
    expected = change(name, domain, tmp_path)
    settings = {key: value() if callable(value) else value for key, value in settings.items()}
    found = change(name, domain, tmp_path, **settings)
    assert found.isfinite().all()
    assert not torch.equal(found, expected)
    assert (found - expected).norm() < distance * expected.norm()
    assert torch.cosine_similarity(found, expected, dim=0) > cosine


@over_representatives
def test_predicts_through_the_data_module(name, domain, tmp_path):
    predictions = quiet_trainer(tmp_path).predict(CASES[name].make(domain), CASES[name].data(domain))
    assert torch.cat([batch["index"] for batch in predictions]).tolist() == list(range(5))
    assert all(len(batch["predictions"]) == len(batch["targets"]) for batch in predictions)


class Damage(L.Callback):
    """In the second step makes one task's inputs, or the gradient, not a number; notes the state before that."""

    def __init__(self, what):
        self.what = what

    def on_train_batch_start(self, trainer, learner, batch, batch_idx):
        if batch_idx == 1:
            self.before = deepcopy(learner.state_dict())
            if self.what == "task":
                batch.support.x[2] = batch.query.x[2] = torch.nan

    def on_after_backward(self, trainer, learner):
        if self.what == "gradient" and trainer.global_step == 1:
            next(learner.parameters()).grad.view(-1)[-1] = torch.inf


@representatives_first
@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("task", r"meta-loss is nan at step 1 \(training episodes 6\)"),
        ("gradient", r"meta-gradient is not finite at step 1 \(training episodes 4-7\)"),
    ],
)
def test_what_is_not_finite_stops_training_before_the_step(what, message, name, domain, tmp_path):
    algorithm, damage = CASES[name].make(domain), Damage(what)
    trainer = quiet_trainer(tmp_path, max_steps=5, callbacks=[damage], log_every_n_steps=100, limit_val_batches=0)
    with pytest.raises(FloatingPointError, match=message):
        trainer.fit(algorithm, CASES[name].data(domain))
    after = algorithm.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in damage.before.items())


@over_representatives
def test_evaluation_in_inference_mode_is_refused(name, domain, tmp_path):
    trainer = quiet_trainer(tmp_path, inference_mode=True)
    with pytest.raises(RuntimeError, match="inference_mode=False"):
        trainer.test(CASES[name].make(domain), CASES[name].data(domain), verbose=False)
