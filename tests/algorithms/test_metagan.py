"""MetaGAN: who learns from what, against gradients written out; both optimisers in every step; samples."""

from functools import partial

import lightning as L
import matplotlib.image
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn
from torch.nn.utils import parameters_to_vector

from cases import CASES
from metalit import MAML, Episode, Labelled
from metalit.algorithms import MetaGANMAML, MetaGANRelationNetwork
from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.generative.joint_optimizer import JointOptimizer
from metalit.evaluation import Figures
from metalit.networks import ConvMaps, ImageGenerator
from metalit.runs.training_log import TrainingLog

pytestmark = pytest.mark.algorithms("MetaGANMAML", "MetaGANRelationNetwork")
BOTH = ["MetaGANMAML", "MetaGANRelationNetwork"]


class Linear(nn.Module):
    """N logits of vectors."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(3, 4, dtype=torch.float64))

    def forward(self, x):
        return x @ self.weight.T


class Shifted(nn.Module):
    """Generates the mean of the set plus a number, always the same."""

    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([0.5, -1.0, 0.3, 2.0], dtype=torch.float64))

    def forward(self, examples, count):
        return (examples.mean(dim=0) + self.shift).expand(count, -1)


@pytest.fixture
def episode():
    torch.manual_seed(0)
    support = Labelled(torch.randn(2, 6, 4, dtype=torch.float64), torch.tensor([[0, 0, 1, 1, 2, 2]] * 2))
    query = Labelled(torch.randn(2, 9, 4, dtype=torch.float64), torch.arange(9).expand(2, 9) % 3)
    return Episode(support, query, torch.arange(2))


def discriminator_loss(weight, x, y, fakes, game_weight):
    """Cross-entropy with N + 1 logits, of real examples and of fakes, the last class; the N among themselves apart."""
    logits = F.pad(torch.cat([x, fakes]) @ weight.T, (0, 1))
    labels = torch.cat([y, torch.full((len(fakes),), 3)])
    losses = F.cross_entropy(logits, labels, reduction="none")
    game = losses[: len(x)].mean() + losses[len(x) :].mean()
    return game_weight * game + (1 - game_weight) * F.cross_entropy(x @ weight.T, y)


@pytest.mark.parametrize("game_weight", [1.0, 0.3])
def test_gradients_of_both_players_are_those_of_the_paper(game_weight, episode):
    torch.manual_seed(1)
    learner = MetaGANMAML(Linear(), inner_lr=0.3, inner_steps=2, generator=Shifted(), fakes=4, game_weight=game_weight)
    learner.meta_loss(episode).backward()
    weight = learner.network.weight.detach().clone().requires_grad_()
    shift = learner.generator.shift.detach().clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for b in range(2):
        (x, y), (query_x, query_y) = ((part.x[b], part.y[b]) for part in episode[:2])
        fakes = (x.mean(dim=0) + shift).expand(4, -1)
        adapted = weight
        for _ in range(2):
            inner = discriminator_loss(adapted, x, y, fakes.detach(), game_weight)
            adapted = adapted - 0.3 * torch.autograd.grad(inner, adapted, create_graph=True)[0]
        log_p = F.pad(fakes @ adapted.detach().T, (0, 1)).log_softmax(dim=1)
        generator = -log_p[:, :-1].logsumexp(dim=1).mean()
        outer = discriminator_loss(adapted, query_x, query_y, fakes.detach(), game_weight)
        total = total + outer + generator
    (total / 2).backward()
    torch.testing.assert_close(learner.network.weight.grad, weight.grad)
    torch.testing.assert_close(learner.generator.shift.grad, shift.grad)


class Certain(Shifted):
    """Generates examples so far off that nobody takes them for real."""

    def forward(self, examples, count):
        return torch.full((count, 4), -1e3, dtype=torch.float64) + 0 * self.shift


class Positive(Linear):
    """Logits that grow with the inputs, so those of ``Certain`` fakes are far below zero."""

    def forward(self, x):
        return x @ self.weight.abs().T


def test_without_doubt_about_fakes_what_is_left_is_maml_with_one_class_more(episode):
    """Fakes that cost nothing have no gradient: inner steps and query loss are those of a padded softmax."""

    class Padded(Positive):
        def forward(self, x):
            return F.pad(super().forward(x), (0, 1))

    torch.manual_seed(2)
    ours = MetaGANMAML(Positive(), inner_lr=0.05, inner_steps=2, generator=Certain())
    torch.manual_seed(2)
    theirs = MAML(Padded(), inner_lr=0.05, inner_steps=2)
    torch.testing.assert_close(ours(episode).loss, theirs(episode).loss)
    torch.testing.assert_close(ours(episode).predictions, theirs(episode).predictions[..., :3])


@pytest.mark.parametrize("name", BOTH)
def test_each_loss_moves_its_own_player(name):
    torch.manual_seed(0)
    learner = CASES[name].make("glyphs")
    outcome = learner(CASES[name].data("glyphs").episodes("train", 0, 2))
    players = learner.players()

    def moved(loss):
        gradients = {
            player: torch.autograd.grad(loss, list(own.values()), retain_graph=True, allow_unused=True)
            for player, own in players.items()
        }
        return {player for player, own in gradients.items() if any(g is not None and g.any() for g in own)}

    assert moved(outcome.penalties["generator_loss"].mean()) == {"generator"}
    assert moved(outcome.penalties["fake_loss"].mean()) == {"discriminator"}
    assert moved(outcome.loss.mean()) == {"discriminator"}
    assert {key for own in players.values() for key in own} == dict(learner.named_parameters()).keys()


def fit(learner, data, folder, **settings):
    options = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu", "logger": False,
               "enable_checkpointing": False, "default_root_dir": folder, "use_distributed_sampler": False,
               "inference_mode": False, "log_every_n_steps": 1, "max_epochs": 2}  # fmt: skip
    trainer = L.Trainer(**(options | settings))
    trainer.fit(learner, data)
    return trainer


@pytest.mark.parametrize("name", BOTH)
def test_losses_gradient_norms_and_samples_are_logged(name, tmp_path):
    loggers = [
        CSVLogger(tmp_path, name="", version=""),
        TensorBoardLogger(tmp_path, name="", version="events"),
    ]
    case = CASES[name]
    fit(
        case.make("glyphs"),
        case.data("glyphs"),
        tmp_path,
        logger=loggers,
        callbacks=[Figures(tasks=2, dpi=40)],
    )
    log = TrainingLog.read(tmp_path / "metrics.csv")
    names = ["discriminator_loss", "fake_loss", "generator_loss", "discriminator_gradient_norm"]
    for found in [*names, "generator_gradient_norm"]:
        values = log.curve(f"train/{found}").values
        assert len(values) == 4
        assert (values > 0).all()
    total = [log.curve(f"train/{loss}").values for loss in ("discriminator_loss", "generator_loss", "loss")]
    assert (total[0] + total[1]).tolist() == pytest.approx(total[2].tolist(), rel=1e-5)
    assert matplotlib.image.imread(tmp_path / "samples.png").std() > 0.05
    assert any(b"figures/samples" in path.read_bytes() for path in (tmp_path / "events").glob("events*"))


class NormsAfterClipping(L.Callback):
    def __init__(self):
        self.norms = []

    def on_before_zero_grad(self, trainer, learner, optimizer):
        for parameters in learner.players().values():
            gradients = [p.grad.flatten() for p in parameters.values() if p.grad is not None]
            self.norms += [torch.cat(gradients).norm().item()] if gradients else []


def test_each_gradient_is_clipped_by_itself(tmp_path):
    case, found = CASES["MetaGANRelationNetwork"], NormsAfterClipping()
    fit(case.make("glyphs"), case.data("glyphs"), tmp_path, gradient_clip_val=1e-3, callbacks=[found])
    assert len(found.norms) >= 4
    assert found.norms == pytest.approx([1e-3] * len(found.norms), rel=1e-2)


def test_no_other_method_is_taken_for_one_that_generates():
    learners = {name: case.make(next(iter(case.learning))) for name, case in CASES.items()}
    assert [name for name, learner in learners.items() if isinstance(learner, GenerativeMetaLearner)] == BOTH


def test_samples_are_those_of_each_task_and_always_the_same():
    torch.manual_seed(0)
    learner = CASES["MetaGANMAML"].make("glyphs").eval()
    support = CASES["MetaGANMAML"].data("glyphs").episodes("val", 0, 3).support
    samples = learner.generated_examples(support)
    assert samples.shape == (3, 3, *support.x.shape[2:])
    assert torch.equal(samples, learner.generated_examples(support))
    assert not torch.equal(samples[0], samples[1])
    assert not torch.equal(samples[0, 0], samples[0, 1])
    assert samples.min() > 0
    assert samples.max() < 1


def test_generator_sees_a_set():
    torch.manual_seed(0)
    generator, images = (
        ImageGenerator(channels=4, in_channels=3, image_size=21, low=-2, high=2),
        torch.rand(4, 3, 21, 21),
    )
    torch.manual_seed(1)
    one = generator(images, 5)
    torch.manual_seed(1)
    torch.testing.assert_close(generator(images.flip(0), 5), one)
    assert one.shape == (5, 3, 21, 21)
    assert one.abs().max() < 2
    assert one.min() < 0
    with pytest.raises(ValueError, match="in_channels is 3, expected 1"):
        generator(images[:, :1], 5)
    with pytest.raises(ValueError, match=r"low is .*, expected below high"):
        ImageGenerator(low=1.0, high=1.0)


def make_two(seed):
    torch.manual_seed(seed)
    one, other = nn.Linear(3, 2), nn.Linear(2, 1)
    adam = torch.optim.Adam(one.parameters(), lr=0.1, betas=(0.5, 0.9))
    sgd = torch.optim.SGD([{"params": [other.weight]}, {"params": [other.bias], "lr": 0.3}], lr=0.2, momentum=0.9)
    return one, other, adam, sgd


def steps(one, other, optimizers, count):
    for _ in range(count):
        loss = other(one(torch.ones(4, 3))).square().mean()
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
    return parameters_to_vector([*one.parameters(), *other.parameters()])


def test_a_joint_step_is_one_of_each_also_after_its_state_was_saved():
    one, other, *apart = make_two(0)
    expected = steps(one, other, apart, 5)
    one, other, *own = make_two(0)
    joint = JointOptimizer(*own)
    steps(one, other, [joint], 3)
    state = joint.state_dict()
    assert len(state["state"]) == 4
    assert [group["lr"] for group in state["param_groups"]] == [0.1, 0.2, 0.3]
    resumed_one, resumed_other, *own = make_two(1)
    resumed = JointOptimizer(*own)
    resumed_one.load_state_dict(one.state_dict())
    resumed_other.load_state_dict(other.state_dict())
    resumed.load_state_dict(state)
    assert torch.equal(steps(resumed_one, resumed_other, [resumed], 2), expected)


def test_a_schedule_acts_on_both_and_a_closure_runs_once():
    one, other, *own = make_two(0)
    joint = JointOptimizer(*own)
    schedule = torch.optim.lr_scheduler.ExponentialLR(joint, gamma=0.5)
    calls = []
    before = parameters_to_vector([*one.parameters(), *other.parameters()]).clone()

    def closure():
        calls.append(other(one(torch.ones(4, 3))).mean())
        calls[-1].backward()
        return calls[-1]

    assert joint.step(closure) is calls[0]
    assert len(calls) == 1
    assert not torch.equal(before, parameters_to_vector([*one.parameters(), *other.parameters()]))
    schedule.step()
    assert [group["lr"] for optimizer in own for group in optimizer.param_groups] == pytest.approx([0.05, 0.1, 0.15])


def test_rates_that_cannot_train_and_no_fakes_are_refused():
    with pytest.raises(ValueError, match="fakes is 0"):
        MetaGANRelationNetwork(ConvMaps(channels=4), fakes=0)
    with pytest.raises(ValueError, match="game_weight is 0"):
        MetaGANMAML(Linear(), game_weight=0.0)
    learner = MetaGANMAML(Linear(), generator=Shifted(), generator_optimizer=partial(torch.optim.Adam, lr=float("inf")))
    with pytest.raises(ValueError, match=r"generator_optimizer\.lr is inf"):
        learner.configure_optimizers()
