"""The progress bar: drawn by time, cheap between drawings, lines where there is no terminal."""

import io
import re
import sys
from itertools import pairwise
from time import monotonic, perf_counter
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from metalit.evaluation import EpisodeProgressBar, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    """Time that advances by ``step`` seconds at each look."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


@pytest.fixture
def show_on(monkeypatch):
    """Makes a new stream the standard output; to be called in the test, since pytest sets its own before."""

    def show(kind):
        stream = kind()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return show


def fit(make_trainer, experiment, bar, **options):
    trainer = make_trainer(bar, enable_progress_bar=True, **options)
    trainer.fit(*experiment)
    return trainer


def drawings(output) -> list[str]:
    return re.findall(r"Epoch \d+: +\d+%[^\r\n]*", output.getvalue())


def test_bar_shows_values_and_speed(make_trainer, regression, show_on):
    output = show_on(Terminal)
    trainer = fit(make_trainer, regression, EpisodeProgressBar(refresh_seconds=1e-6))
    last = drawings(output)[-1]
    assert "Epoch 1: 100%" in last
    assert f"mse={trainer.callback_metrics['train/mse'].item():.4g}" in last
    mean, interval = (trainer.callback_metrics[f"val/{name}"].item() for name in ("mse", "mse_ci95"))
    assert f"val/mse={mean:.4g}±{interval:.4g}" in last
    assert re.search(r"episodes/s=[\d,.]+", last)


def test_bar_is_drawn_by_time_and_not_by_batch(make_trainer, regression, show_on):
    output = show_on(Terminal)
    fit(make_trainer, regression, EpisodeProgressBar(refresh_seconds=1e6), limit_val_batches=0)
    assert len(drawings(output)) <= 3  # 20 batches: the first one, and the end
    before = len(output.getvalue())
    fit(make_trainer, regression, EpisodeProgressBar(refresh_seconds=1e-6), limit_val_batches=0)
    assert len(re.findall(r"Epoch \d+: +\d+%", output.getvalue()[before:])) >= 20


def test_after_each_validation_the_bar_shows_training_again(make_trainer, regression, show_on):
    """Epochs may be shorter than the time between two updates."""
    output = show_on(Terminal)
    fit(make_trainer, regression, EpisodeProgressBar(refresh_seconds=1e6))
    shown = re.findall(r"(Epoch \d+|Validation): +\d+%", output.getvalue())
    assert "Validation" in shown
    assert all(then != "Validation" for one, then in pairwise([*shown, "Validation"]) if one == "Validation")


def test_a_training_resumed_within_an_epoch_shows_its_number_and_its_own_time():
    bar = EpisodeProgressBar()
    bar.disable()
    before = monotonic()
    bar.on_train_start(SimpleNamespace(current_epoch=3), None)  # Lightning starts no epoch then
    assert bar._epoch == 3
    assert bar._epoch_since >= before


def test_speed_counts_the_tasks_of_all_ranks_and_not_the_time_of_validation(
    make_trainer, regression, show_on, monkeypatch
):
    show_on(Terminal)
    learner, data = regression
    bar = EpisodeProgressBar(refresh_seconds=5.0)
    clock = Clock(0.0)
    monkeypatch.setattr(progress, "monotonic", clock)
    trainer = make_trainer(bar, enable_progress_bar=True)
    monkeypatch.setattr(L.Trainer, "world_size", 2)
    batch = data.episodes("train", 0, 4)
    bar.setup(trainer, learner, "fit")
    bar.on_train_start(trainer, learner)
    bar.on_train_batch_end(trainer, learner, {"loss": torch.tensor(0.5)}, batch, 0)
    speeds = []
    for index in range(1, 11):
        clock.now += 1.0
        if index == 5:
            bar.on_validation_start(trainer, learner)
            clock.now += 100.0
            bar.on_validation_end(trainer, learner)
        bar.on_train_batch_end(trainer, learner, {"loss": torch.tensor(0.5)}, batch, index)
        speeds.append(bar.get_metrics(trainer, learner)["episodes/s"])
    assert speeds[4:] == ["8.00"] * 6  # 4 tasks x 2 ranks in a second
    assert bar.get_metrics(trainer, learner)["loss"] == "0.5"  # nothing is logged yet: the step's own


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_batch_costs_little_between_two_drawings(make_trainer, regression, show_on, kind):
    show_on(kind)
    learner, data = regression
    bar = EpisodeProgressBar(refresh_seconds=1e6, line_seconds=1e6)
    trainer = make_trainer(bar, enable_progress_bar=True)
    bar.setup(trainer, learner, "fit")
    bar.on_train_start(trainer, learner)
    batch, loss = data.episodes("train", 0, 4), {"loss": torch.tensor(0.5)}
    bar.on_train_batch_end(trainer, learner, loss, batch, 0)

    def cost() -> float:
        start = perf_counter()
        for index in range(1000):
            bar.on_train_batch_end(trainer, learner, loss, batch, index)
        return (perf_counter() - start) / 1000

    assert min(cost() for _ in range(10)) < 10e-6


def test_lines_where_there_is_no_terminal(make_trainer, regression, show_on, monkeypatch):
    output = show_on(io.StringIO)
    clock = Clock(0.1)
    monkeypatch.setattr(progress, "monotonic", clock)
    trainer = fit(make_trainer, regression, EpisodeProgressBar(line_seconds=1.0), max_epochs=4)
    lines = output.getvalue().splitlines()
    assert 2 <= len(lines) <= clock.now / 1.0 + 1
    assert all(re.match(r"Epoch \d, \d+/10: loss [\d.]+, mse ", text) for text in lines)
    assert lines[-1].startswith("Epoch 3, 10/10")
    assert f"val/mse {trainer.callback_metrics['val/mse'].item():.4g}" in lines[-1]


def test_a_short_run_ends_with_its_only_line(make_trainer, images, show_on):
    output = show_on(io.StringIO)
    fit(make_trainer, images, EpisodeProgressBar())
    (line,) = output.getvalue().splitlines()
    assert re.match(r"Epoch 1, 10/10: loss [\d.]+, accuracy [01]\.\d{4}, val/accuracy [01]\.\d{4}±0\.\d{4}", line)


def test_a_long_test_is_reported_in_lines(make_trainer, regression, show_on, monkeypatch):
    output = show_on(io.StringIO)
    monkeypatch.setattr(progress, "monotonic", Clock(20.0))
    trainer = make_trainer(EpisodeProgressBar(), enable_progress_bar=True)
    trainer.test(*regression, verbose=False)
    assert output.getvalue().splitlines() == [f"Testing, {batch}/3" for batch in (1, 2, 3)]


def test_testing_has_a_bar(make_trainer, regression, show_on):
    output = show_on(Terminal)
    make_trainer(EpisodeProgressBar(), enable_progress_bar=True).test(*regression, verbose=False)
    assert "3/3" in output.getvalue()


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_other_ranks_are_silent(make_trainer, regression, show_on, kind, monkeypatch):
    output = show_on(kind)
    monkeypatch.setattr(L.Trainer, "is_global_zero", False)
    fit(make_trainer, regression, EpisodeProgressBar(refresh_seconds=1e-6, line_seconds=1e-6))
    assert output.getvalue() == ""


@pytest.mark.parametrize("name", ["refresh_seconds", "line_seconds"])
def test_wrong_arguments_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0"):
        EpisodeProgressBar(**{name: 0.0})


def test_an_epoch_that_max_steps_ends_shows_how_long_it_is(make_trainer, regression, show_on, monkeypatch):
    output = show_on(io.StringIO)
    monkeypatch.setattr(progress, "monotonic", Clock(0.1))
    fit(make_trainer, regression, EpisodeProgressBar(line_seconds=0.5), max_epochs=-1, max_steps=13)
    lines = output.getvalue().splitlines()
    totals = {tuple(map(int, re.findall(r"Epoch (\d), \d+/(\d+):", line)[0])) for line in lines}
    assert totals == {(0, 10), (1, 3)}
    assert lines[-1].startswith("Epoch 1, 3/3")
