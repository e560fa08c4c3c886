"""MAML++: each part against its definition, and such that the test fails where its switch is cut.

The authors' code:
https://github.com/AntreasAntoniou/HowToTrainYourMAMLPytorch/tree/86964701651c06e490271365fedb8789a72ef3f0
"""

from itertools import pairwise

import lightning as L
import pytest
import torch
import torch._dynamo
import torch.nn.functional as F
from torch import nn
from torch._dynamo.utils import counters

from algorithms.test_battery import assert_same_gradient, double, learner, meta_gradient, quiet_trainer
from cases import CASES, DOMAINS
from metalit import FOMAML, MAML, Engine, Episode, Labelled
from metalit.algorithms import MAMLPlusPlus
from metalit.networks import MLP, batch_norm_2d
from metalit.objectives import MultiStepLoss, QueryLoss

OFF = {"learn_rates": False, "per_step_norms": False, "multi_step_epochs": 0, "first_order_epochs": 0}


def conv(batch_norm="running"):
    """Two norms, named 1 and 4."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 5, stride=4), batch_norm_2d(4, batch_norm), nn.ReLU(),
        nn.Conv2d(4, 4, 3, stride=3), batch_norm_2d(4, batch_norm), nn.ReLU(),
        nn.Flatten(), nn.Linear(16, 3),
    )  # fmt: skip


def make(algorithm, network, **settings):
    torch.manual_seed(3)
    return algorithm(network(), **({"inner_lr": 0.05, "inner_steps": 2} | settings)).double()


@pytest.mark.parametrize(("network", "domain"), [(MLP, "sinusoid"), (conv, "glyphs")])
def test_with_all_parts_off_it_is_maml(network, domain):
    expected = meta_gradient(make(MAML, network), double(domain))
    assert_same_gradient(meta_gradient(make(MAMLPlusPlus, network, **OFF), double(domain)), expected)


@pytest.mark.parametrize(
    "part",
    [{"learn_rates": True}, {"per_step_norms": True}, {"multi_step_epochs": 5}, {"first_order_epochs": 1}],
    ids=lambda part: next(iter(part)),
)
def test_each_switch_changes_the_meta_gradient(part):
    off, on = (meta_gradient(make(MAMLPlusPlus, conv, **OFF | settings), double("glyphs")) for settings in ({}, part))
    same = on[1].keys() == off[1].keys() and all(torch.allclose(on[1][name], off[1][name]) for name in off[1])
    assert not same


class MetaGradients(L.Callback):
    """Notes the meta-gradient of each epoch's first step, and where it was taken; takes no step."""

    def __init__(self):
        self.found = []

    def on_after_backward(self, trainer, algorithm):
        if trainer.fit_loop.epoch_loop.batch_idx == 0:
            self.found.append({name: p.grad.clone() for name, p in algorithm.network.named_parameters()})


def first_gradients(algorithm, folder):
    witness = MetaGradients()
    trainer = quiet_trainer(folder, max_epochs=12, callbacks=[witness], limit_val_batches=0)
    trainer.fit(algorithm.float(), DOMAINS["sinusoid"].data())
    return witness.found


@pytest.mark.parametrize("compile", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["eager", "compiled"])
def test_second_derivatives_begin_at_their_epoch(compile, tmp_path):
    def network():
        return MLP(hidden=(8,))

    def stay(parameters):
        return torch.optim.SGD(parameters, lr=0.0)

    torch._dynamo.reset()
    counters.clear()
    settings = OFF | {"multi_step_epochs": 3, "first_order_epochs": 2, "optimizer": stay}
    engine = Engine(compile=compile, compile_backend="aot_eager")
    found = first_gradients(make(MAMLPlusPlus, network, **settings, engine=engine), tmp_path)
    # once for each order and once more without the multi-step loss, not for each epoch's weights
    assert counters["stats"]["unique_graphs"] == (3 if compile else 0)

    references = [make(kind, network, objective=MultiStepLoss(3), optimizer=stay) for kind in (FOMAML, MAML)]
    first, second = (first_gradients(reference, tmp_path) for reference in references)
    for epoch, gradient in enumerate(found):
        expected, other = (first, second) if epoch < 2 else (second, first)
        for name in gradient:
            torch.testing.assert_close(gradient[name], expected[epoch][name], rtol=1e-4, atol=1e-6)
        assert any(not torch.allclose(gradient[name], other[epoch][name], rtol=1e-3, atol=1e-5) for name in gradient)


def test_a_resumed_run_has_the_order_of_its_epoch(tmp_path):
    """Saved in the midst of the last epoch of first order: the next steps are in it, and then beyond it."""

    class Save(L.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step == 3:
                trainer.save_checkpoint(tmp_path / "middle.ckpt")

    class Orders(L.Callback):
        def on_train_batch_end(self, trainer, algorithm, *_):
            episode = DOMAINS["sinusoid"].data().episodes("train")
            task = algorithm.training_task(episode.support, algorithm.objective, trainer.current_epoch)
            orders.append(task.func.__self__.first_order)

    def fit(callbacks, checkpoint=None):
        algorithm = CASES["MAMLPlusPlus"].make("sinusoid", first_order_epochs=2)
        trainer = quiet_trainer(tmp_path, max_steps=6, max_epochs=-1, callbacks=callbacks)
        trainer.fit(algorithm, DOMAINS["sinusoid"].data(), ckpt_path=checkpoint)
        return algorithm.state_dict()

    orders = []
    straight, resumed = fit([Save()]), fit([Orders()], tmp_path / "middle.ckpt")
    assert orders == [True, False, False]
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)


def weights_by_the_authors(epoch, steps, epochs):
    """few_shot_learning_system.py, get_per_step_loss_importance_vector."""
    decay, least = 1 / steps / epochs, 0.03 / steps
    early = [max(1 / steps - epoch * decay, least)] * (steps - 1)
    return [*early, min(1 / steps + epoch * (steps - 1) * decay, 1 - (steps - 1) * least)]


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_weights_of_the_steps(steps):
    objective = MultiStepLoss(10)
    for epoch in range(10):
        weights = objective.at_epoch(epoch).weights(steps)
        assert weights.tolist() == pytest.approx(weights_by_the_authors(epoch, steps, 10))
        assert weights.sum().item() == pytest.approx(1, abs=1e-15)
    assert type(objective.at_epoch(10)) is QueryLoss
    early = MultiStepLoss(100).at_epoch(99).weights(5)
    assert early[0].item() == pytest.approx(0.03 / 5)  # the floor holds until the last epoch


def test_the_multi_step_gradient_is_that_of_the_mean_over_steps_and_then_of_the_last():
    episode = double("sinusoid")
    after = [meta_gradient(make(MAML, MLP, inner_steps=steps), episode)[1] for steps in (1, 2, 3)]
    mean = {name: sum(gradient[name] for gradient in after) / 3 for name in after[0]}
    objective = MultiStepLoss(4)
    for epoch, expected in [(0, mean), (4, after[-1])]:
        algorithm = make(MAML, MLP, inner_steps=3, objective=objective)
        loss = objective.at_epoch(epoch).total(algorithm(episode))
        gradient = torch.autograd.grad(loss, list(algorithm.parameters()))
        for found, wanted in zip(gradient, expected.values(), strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1])
def test_the_multi_step_loss_of_one_step_is_the_query_loss(steps):
    one, other = (
        make(MAML, MLP, inner_steps=steps, objective=objective).meta_loss(double("sinusoid"))
        for objective in (MultiStepLoss(), QueryLoss())
    )
    assert one.item() == other.item()


@pytest.mark.learns
def test_learned_rates_come_apart_and_help():
    """Two slopes, whose features are of different scale: no single rate suits both, nor both steps."""

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.large, self.small = (nn.Parameter(torch.zeros(1, 1)) for _ in range(2))

        def forward(self, x):
            return x[:, :1] @ self.large + 0.5 * x[:, 1:] @ self.small

    def train(learn_rates):
        torch.manual_seed(0)
        algorithm = MAMLPlusPlus(Two(), 0.3, 2, learn_rates=learn_rates)
        optimizer = torch.optim.Adam(algorithm.parameters(), lr=0.03)
        x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]).expand(8, -1, -1)
        for _ in range(100):
            examples = Labelled(x, x @ torch.randn(8, 2, 1))
            optimizer.zero_grad()
            loss = algorithm.meta_loss(Episode(examples, examples, torch.arange(8)))
            loss.backward()
            optimizer.step()
        return algorithm, loss.item()

    (fixed, loss_of_fixed), (learned, loss_of_learned) = train(False), train(True)
    assert loss_of_learned < 0.5 * loss_of_fixed
    rates = torch.stack([*learned.update_rule.parameters()])
    assert rates.shape == (2, 2)
    assert torch.pdist(rates.reshape(-1, 1)).min() > 0.01
    assert not list(fixed.update_rule.parameters())


def trajectory(algorithm, support, steps):
    with algorithm.context():
        return algorithm.trajectory({**algorithm.meta()[0], **algorithm.meta()[1]}, support, steps)


def test_a_longer_test_takes_the_rates_and_norms_of_the_last_step():
    algorithm, episode = make(MAMLPlusPlus, conv), double("glyphs")
    with torch.no_grad():
        for rate in algorithm.update_rule.parameters():
            rate[0] = 0.0
    path = trajectory(algorithm, Labelled(episode.support.x[0], episode.support.y[0]), 4)
    head = [adapted["7.weight"] for adapted in path]
    assert torch.equal(head[0], head[1])
    assert all(not torch.equal(one, other) for one, other in pairwise(head[1:]))
    copies = [copy["1"].weight for copy in algorithm.norms.copies]
    assert "1.weight" not in path[0]
    assert path[1]["1.weight"] is copies[0]
    assert path[2]["1.weight"] is path[3]["1.weight"] is path[4]["1.weight"] is copies[1]


@pytest.mark.parametrize("step", [0, 1, 2])
@pytest.mark.parametrize("member", ["bias", "running_mean"])
def test_norms_of_a_step_act_in_that_step_alone(step, member):
    """Evaluation at step s is changed by the norms of step i if and only if i <= s; statistics only where tracked."""

    def losses(change, batch_norm):
        algorithm = make(MAMLPlusPlus, lambda: conv(batch_norm)).eval()
        norm = algorithm.network[4] if step == 0 else algorithm.norms.copies[step - 1]["4"]
        if getattr(norm, member) is not None:
            with torch.no_grad():
                getattr(norm, member).add_(change)
        return algorithm.evaluate(double("glyphs")).loss.mean(dim=0)

    differs = [bool(d) for d in (losses(0.3, "running") - losses(0.0, "running")).abs() > 1e-9]
    assert differs == [step <= stage for stage in range(3)]
    if member == "running_mean":
        assert torch.equal(losses(0.3, "batch"), losses(0.0, "batch"))


def test_running_statistics_of_each_step_are_those_of_that_step():
    """The first norm sees the first convolution, of which the activations after each step are computed by hand."""
    algorithm, episode = make(MAMLPlusPlus, conv, multi_step_epochs=0), double("glyphs")
    expected = torch.zeros(3, 4, dtype=torch.float64)
    for support, query in zip(zip(*episode.support, strict=True), zip(*episode.query, strict=True), strict=True):
        path = trajectory(algorithm, Labelled(*support), 2)
        for step, (adapted, x) in enumerate(zip(path, (support[0], support[0], query[0]), strict=True)):
            maps = F.conv2d(x, adapted["0.weight"], adapted["0.bias"], stride=4)
            expected[step] += 0.1 * maps.mean(dim=(0, 2, 3)).detach() / 4
    meta_gradient(algorithm, episode)
    algorithm._write_buffers([batch.statistics for batch in algorithm._batches])
    norms = [algorithm.network[1], *(copy["1"] for copy in algorithm.norms.copies)]
    torch.testing.assert_close(torch.stack([n.running_mean for n in norms]), expected, rtol=1e-9, atol=1e-12)
    assert [n.num_batches_tracked.item() for n in norms] == [1, 1, 1]


@pytest.mark.parametrize(("batch_norm", "depends"), [("batch", True), ("running", False)])
def test_other_query_images_matter_only_with_statistics_of_the_batch(batch_norm, depends):
    algorithm, episode = make(MAMLPlusPlus, lambda: conv(batch_norm)).eval(), double("glyphs")
    fewer = episode._replace(query=Labelled(episode.query.x[:, :4], episode.query.y[:, :4]))
    one, other = algorithm.evaluate(episode).predictions[:, :, :4], algorithm.evaluate(fewer).predictions
    assert torch.allclose(one, other, atol=1e-10) is not depends


@pytest.mark.parametrize(
    "settings",
    [
        {"engine": Engine("vmap")},
        {"engine": Engine(chunk_size=3)},
        pytest.param({"engine": Engine(compile=True, compile_backend="aot_eager")}, marks=pytest.mark.slow),
        {"checkpoint_steps": True},
    ],
    ids=["vmap", "chunked", "compiled", "checkpointed"],
)
def test_statistics_per_step_do_not_depend_on_the_engine(settings):
    def run(**settings):
        algorithm = make(MAMLPlusPlus, conv, **settings)
        gradient = meta_gradient(algorithm, double("glyphs"))
        return gradient, algorithm._batches[0].statistics

    (expected, statistics), (found, others) = run(engine=Engine("loop")), run(**settings)
    assert_same_gradient(found, expected)
    assert len(statistics) == len(others) == 3 * 2 * 2  # of each step, norm, mean and variance
    for name in statistics:
        torch.testing.assert_close(others[name], statistics[name], rtol=1e-9, atol=1e-12)


def test_what_a_result_says():
    setting = learner("MAMLPlusPlus", "glyphs", first_order_epochs=3).setting()
    assert setting["per_step_norms"] is True
    assert setting["multi_step_epochs"] == 10
    assert setting["first_order_epochs"] == 3
    assert setting["first_order"] is False
    assert MAMLPlusPlus(MLP()).setting()["per_step_norms"] is False
    assert MAMLPlusPlus(MLP(), objective=QueryLoss()).setting()["multi_step_epochs"] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"inner_lr": -0.1}, r"inner_lr is -0\.1"),
        ({"multi_step_epochs": -1}, "multi_step_epochs is -1"),
        ({"first_order_epochs": -2}, "first_order_epochs is -2"),
    ],
)
def test_impossible_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MAMLPlusPlus(MLP(), **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"epochs": -1}, "epochs is -1"), ({"floor": 1.5}, r"floor is 1\.5")],
)
def test_impossible_weights_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MultiStepLoss(**settings)
