"""Options win over the checkpoint, and a training that a callback has ended stays ended."""

from functools import partial

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)

from runs.small_run import Steps, end_of, train

# Lightning's own: what the command line keeps quiet
pytestmark = pytest.mark.filterwarnings("ignore")
EARLY = partial(EarlyStopping, "val/loss", min_delta=1e6, patience=1)  # nothing improves so much
MID_EPOCH, EPOCH_END = 3, 4


def groups(folder, steps, **learner):
    """Train on to a step, and return the hyper-parameters of each step by its number."""
    noted = Steps()
    train(folder, learner, [lambda: noted], max_epochs=-1, max_steps=steps)
    return noted.groups


@pytest.mark.parametrize("stop", [MID_EPOCH, EPOCH_END])
@pytest.mark.parametrize(
    ("before", "after", "name"),
    [
        (partial(Adam, lr=0.001), partial(Adam, lr=0.1), "lr"),
        (partial(Adam, weight_decay=0.0), partial(Adam, weight_decay=0.1), "weight_decay"),
        (partial(Adam, betas=(0.9, 0.999)), partial(Adam, betas=(0.5, 0.9)), "betas"),
        (partial(SGD, lr=0.1, momentum=0.5), partial(SGD, lr=0.1, momentum=0.9, nesterov=True), "nesterov"),
    ],
)
def test_hyper_parameters_of_the_optimiser_win(before, after, name, stop, tmp_path):
    groups(tmp_path, stop, optimizer=before)
    found = groups(tmp_path, 6, optimizer=after)
    assert found.keys() == set(range(stop, 6))
    expected = after([nn.Parameter(torch.zeros(1))]).param_groups[0]
    assert all(group[name] == expected[name] for group in found.values())


def chained(optimizer, gamma):
    return ChainedScheduler([StepLR(optimizer, 1, gamma=gamma)], optimizer)


def sequential(optimizer, start_factor):
    parts = [LinearLR(optimizer, start_factor=start_factor, total_iters=2), StepLR(optimizer, 2)]
    return SequentialLR(optimizer, parts, milestones=[2])


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (partial(CosineAnnealingLR, T_max=4), partial(CosineAnnealingLR, T_max=100)),
        (partial(StepLR, step_size=1), partial(StepLR, step_size=3)),
        (partial(MultiStepLR, milestones=[1]), partial(MultiStepLR, milestones=[1, 2, 3])),
        (partial(OneCycleLR, max_lr=0.1, total_steps=10), partial(OneCycleLR, max_lr=0.1, total_steps=20)),
        (partial(sequential, start_factor=0.5), partial(sequential, start_factor=0.25)),
        (partial(chained, gamma=0.5), partial(chained, gamma=0.25)),
    ],
    ids=["cosine", "step", "multistep", "onecycle", "sequential", "chained"],
)
@pytest.mark.sample(2)
def test_settings_of_a_schedule_win_as_if_they_had_been_so_from_the_beginning(before, after, interval, tmp_path):
    common = {"optimizer": partial(SGD, lr=0.01, momentum=0.9), "lr_scheduler_interval": interval}
    groups(tmp_path / "run", 4, lr_scheduler=before, **common)
    found = groups(tmp_path / "run", 6, lr_scheduler=after, **common)
    expected = groups(tmp_path / "other", 6, lr_scheduler=after, **common)
    assert found.keys() == {4, 5}
    for name in ("lr", "momentum", "initial_lr"):
        rates = {step: group[name] for step, group in found.items()}
        assert rates == pytest.approx({step: expected[step][name] for step in found}, rel=1e-12)


def test_rate_wins_under_a_schedule(tmp_path):
    halving = partial(StepLR, step_size=1, gamma=0.5)
    groups(tmp_path, 4, optimizer=partial(Adam, lr=0.1), lr_scheduler=halving)
    found = groups(tmp_path, 6, optimizer=partial(Adam, lr=0.4), lr_scheduler=halving)
    assert [group["lr"] for group in found.values()] == [0.1, 0.1]  # halved twice


def test_settings_of_a_plateau_win_and_its_reductions_stay(tmp_path):
    plateau = partial(ReduceLROnPlateau, threshold=0.99, factor=0.5)
    reduced = groups(tmp_path, 6, optimizer=partial(Adam, lr=0.1), lr_scheduler=partial(plateau, patience=0))
    assert reduced[5]["lr"] < 0.1
    found = groups(tmp_path, 12, optimizer=partial(Adam, lr=0.2), lr_scheduler=partial(plateau, patience=50))
    rates = {group["lr"] for group in found.values()}
    assert len(rates) == 1  # none more
    assert rates.pop() == pytest.approx(2 * reduced[5]["lr"])


def test_what_training_has_made_of_a_setting_stays_if_the_setting_is_the_same(tmp_path):
    class Own(Steps):
        def on_train_batch_end(self, trainer, learner, outputs, batch, batch_idx):
            trainer.optimizers[0].param_groups[0]["lr"] *= 0.5

    train(tmp_path, None, [Own], max_epochs=-1, max_steps=4)
    noted = Steps()
    train(tmp_path, None, [lambda: noted], max_epochs=-1, max_steps=5)
    assert noted.groups[4]["lr"] == 0.001 / 16


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"optimizer": Adam}, {"optimizer": partial(SGD, lr=0.1)}, "optimizer is SGD, but was Adam"),
        ({"optimizer": Adam}, {"optimizer": AdamW}, "optimizer is AdamW, but was Adam"),
        (
            {"lr_scheduler": partial(StepLR, step_size=1)},
            {"lr_scheduler": partial(CosineAnnealingLR, T_max=4)},
            "lr_scheduler is CosineAnnealingLR, but was StepLR",
        ),
        ({}, {"lr_scheduler": partial(StepLR, step_size=1)}, "lr_scheduler is StepLR, but was null"),
    ],
)
def test_another_class_is_refused(before, after, message, tmp_path):
    groups(tmp_path, 3, **before)
    with pytest.raises(ValueError, match=message):
        groups(tmp_path, 6, **after)


@pytest.mark.parametrize("at_epoch_end", [True, False])
def test_patience_wins_and_else_a_stopped_training_is_complete(at_epoch_end, tmp_path):
    early = partial(EARLY, check_on_train_epoch_end=at_epoch_end)
    stopped = end_of(tmp_path, None, [early], max_epochs=9)
    assert stopped["global_step"] == 4
    for _ in range(2):
        assert end_of(tmp_path, None, [early], max_epochs=9)["global_step"] == 4
    assert end_of(tmp_path, None, [partial(early, patience=3)], max_epochs=9)["global_step"] == 8


def test_stopped_training_goes_on_without_what_stopped_it(tmp_path):
    early = partial(EARLY, check_on_train_epoch_end=False)
    assert end_of(tmp_path, None, [early], max_epochs=4)["global_step"] == 4
    assert end_of(tmp_path, None, [], max_epochs=4)["global_step"] == 8


def test_patience_wins_in_the_midst_of_an_epoch(tmp_path):
    train(tmp_path, None, [partial(EARLY, patience=50)], max_epochs=9, max_steps=3)
    assert end_of(tmp_path, None, [EARLY], max_epochs=9)["global_step"] == 4


@pytest.mark.parametrize(("limit", "longer"), [("max_steps", 6), ("max_epochs", 3)])
def test_training_that_reached_a_limit_goes_on_to_a_larger_one(limit, longer, tmp_path):
    limits = {"max_epochs": -1} if limit == "max_steps" else {}
    for end in (longer - 2, longer):
        found = end_of(tmp_path / "parts", None, [partial(EARLY, patience=9)], **limits | {limit: end})
    whole = end_of(tmp_path / "whole", None, [partial(EARLY, patience=9)], **limits | {limit: longer})
    assert found["global_step"] == whole["global_step"] == 6
    assert all(torch.equal(value, found["state_dict"][name]) for name, value in whole["state_dict"].items())
