"""Loss scaling: what float16 would lose is kept, and what overflows is skipped."""

from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.nn.utils import parameters_to_vector

from cases import DOMAINS
from metalit import Engine, Episode, Labelled
from metalit.algorithms import FOMAML, MAML, PrototypicalNetwork
from metalit.networks import MLP
from metalit.objectives import Objective

STEPS = 4


class Small(Objective):
    """A loss so small that float16 has no numbers for its gradient."""

    def __call__(self, outcome):
        return 1e-7 * outcome.loss.mean()


class Witness(L.Callback):
    """Notes all parameters, and the scale, after each step."""

    def __init__(self):
        self.parameters, self.scales = [], []

    def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
        self.parameters.append(parameters_to_vector(learner.parameters()).detach().clone())
        if trainer.scaler is not None:
            self.scales.append(trainer.scaler.get_scale())


def fit(learner, *callbacks, **scaling):
    """Train on sinusoids, in float16 if a scaler is described, and return the witness."""
    scaler = torch.amp.GradScaler("cpu", **scaling) if scaling else None
    witness = Witness()
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", max_steps=STEPS,
        max_epochs=-1, limit_val_batches=0, enable_checkpointing=False, callbacks=[witness, *callbacks],
        plugins=[MixedPrecision("16-mixed", "cpu", scaler=scaler)] if scaler else None,
    )  # fmt: skip
    trainer.fit(learner, DOMAINS["sinusoid"].data())
    return witness


def learner(algorithm=MAML, **settings):
    torch.manual_seed(0)
    return algorithm(MLP(), inner_lr=0.05, **settings)


@pytest.mark.parametrize("algorithm", [MAML, FOMAML])
@pytest.mark.parametrize(
    "engine",
    [Engine(), Engine(differentiate="over"), Engine(chunk_size=3), Engine("loop")],
    ids=["inside", "over", "chunked", "loop"],
)
def test_a_small_loss_does_not_underflow(algorithm, engine):
    sgd = partial(torch.optim.SGD, lr=3e4)
    settings = {"objective": Small(), "optimizer": sgd, "engine": engine}
    start = parameters_to_vector(learner().parameters()).detach()
    make = partial(learner, algorithm, **settings)
    expected = fit(make()).parameters[-1] - start
    scaled = fit(make(), init_scale=2.0**16).parameters[-1] - start
    unscaled = fit(make(), init_scale=1.0).parameters[-1] - start
    assert (scaled - expected).norm() < 0.05 * expected.norm()
    assert (unscaled - expected).norm() > 0.5 * expected.norm()


def test_a_step_that_overflows_is_skipped_and_training_goes_on():
    witness = fit(learner(), init_scale=2.0**40, backoff_factor=2.0**-30)
    start = parameters_to_vector(learner().parameters()).detach()
    assert witness.scales == [2.0**10] * STEPS
    assert torch.equal(witness.parameters[0], start)
    for before, after in zip(witness.parameters, witness.parameters[1:], strict=False):
        assert after.isfinite().all()
        assert not torch.equal(before, after)


class Scaling(nn.Module):
    """A network of which autocast changes nothing."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(300))

    def forward(self, x):
        return x * self.weight


@pytest.mark.parametrize("chunk_size", [None, 1])
def test_the_backward_pass_is_not_rounded_once_more(chunk_size):
    torch.manual_seed(0)
    y = torch.arange(3).repeat(2, 2)
    episode = Episode(*(Labelled(torch.randn(2, 6, 300), y) for _ in range(2)), torch.arange(2))
    one = PrototypicalNetwork(Scaling(), engine=Engine(chunk_size=chunk_size))
    one.trainer = L.Trainer(logger=False, accelerator="cpu")
    one.training_step(episode, 0).backward()
    expected, one.network.weight.grad = one.network.weight.grad, None
    with torch.autocast("cpu", torch.bfloat16):
        loss = one.training_step(episode, 0)
    loss.backward()
    assert torch.equal(one.network.weight.grad, expected)


class NotANumber(L.Callback):
    """Makes every gradient not a number, which no scale can help."""

    def on_after_backward(self, trainer, learner):
        next(learner.parameters()).grad.fill_(torch.nan)


def test_a_gradient_that_is_not_finite_at_any_scale_stops_training():
    with pytest.raises(FloatingPointError, match=r"meta-gradient is not finite at step 1 \(training episodes 4-7\)"):
        fit(learner(), NotANumber(), init_scale=1.0)


def test_inner_steps_are_in_float32_unless_asked_for():
    """The adapted parameters alone decide the predictions of a network whose query pass is not under autocast."""
    episode = DOMAINS["sinusoid"].data().episodes("train", 0, 2)
    kept, rounded = learner(inner_steps=3), learner(inner_steps=3, inner_autocast=True)
    support = type(episode.support)(episode.support.x[0], episode.support.y[0])
    expected = kept.adapt(support)(episode.query.x[0])
    with torch.autocast("cpu", torch.bfloat16):
        predictors = [one.adapt(support) for one in (kept, rounded)]
    same, other = (predictor(episode.query.x[0]) for predictor in predictors)
    assert torch.equal(same, expected)
    assert not torch.equal(other, expected)
