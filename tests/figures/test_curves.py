"""Curves show what was measured."""

import numpy as np
import pytest
import torch
from matplotlib.collections import PolyCollection

from metalit.data import Sinusoid
from metalit.figures import adaptation, adaptation_curve, learning_curves
from metalit.metrics import Summary
from metalit.runs.training_log import TrainingLog
from padding import of_unequal_size


def log_with(points: int) -> TrainingLog:
    rows = [{"step": i, "train/loss": 1.0 / i, "train/accuracy": 0.5} for i in range(1, points)]
    validations = [{"step": i, "val/loss": 0.5, "val/accuracy": i / 100, "val/accuracy_ci95": 0.05} for i in (10, 20)]
    return TrainingLog([*rows, *validations])


def test_learning_curves_show_validation_with_its_interval():
    figure = learning_curves(log_with(30))
    assert [axes.get_ylabel() for axes in figure.axes] == ["loss", "accuracy"]
    accuracy = figure.axes[1]
    validation = next(line for line in accuracy.lines if line.get_label() == "validation")
    assert (validation.get_xdata().tolist(), validation.get_ydata().tolist()) == ([10, 20], [0.1, 0.2])
    (band,) = [artist for artist in accuracy.collections if isinstance(artist, PolyCollection)]
    low, high = band.get_paths()[0].vertices[:, 1].min(), band.get_paths()[0].vertices[:, 1].max()
    assert (low, high) == pytest.approx((0.05, 0.25))


def test_a_long_training_curve_is_smoothed_in_the_middle_of_its_window():
    rows = [{"step": i, "train/loss": float(i)} for i in range(1, 1001)]
    smooth = learning_curves(TrainingLog(rows)).axes[0].lines[1]
    # the mean of a straight line over a centred window is the line itself
    np.testing.assert_allclose(smooth.get_ydata(), smooth.get_xdata(), atol=0.51)
    assert "mean of" in smooth.get_label()


def test_errors_over_decades_are_on_a_logarithmic_axis_and_accuracies_never():
    rows = [{"step": i, "train/loss": 10.0**-i, "train/accuracy": 10.0**-i} for i in range(4)]
    loss, accuracy = learning_curves(TrainingLog(rows)).axes
    assert (loss.get_yscale(), accuracy.get_yscale()) == ("log", "linear")


def test_adaptation_curve():
    summaries = [Summary(0.2, 0.01, 0.1), Summary(0.6, 0.02, 0.1), Summary(0.7, float("nan"), 0.1)]
    (axes,) = adaptation_curve({"accuracy": summaries}).axes
    assert axes.lines[0].get_ydata().tolist() == [0.2, 0.6, 0.7]
    bars = axes.containers[0].lines[2][0].get_segments()
    np.testing.assert_allclose(bars[1][:, 1], [0.58, 0.62])


def test_adaptation_sorts_the_queries_and_shows_first_and_last_step():
    episode = Sinusoid(shots=5, queries=20).episodes("test", 0, 2)
    predictions = torch.stack([episode.query.x * (stage + 1) for stage in range(12)], dim=1)
    figure = adaptation(episode, predictions)
    assert len(figure.axes) == 2
    for task, axes in enumerate(figure.axes):
        lines = {line.get_label(): line for line in axes.lines}
        assert len(lines) == 2 + 5
        for label, factor in (("before adaptation", 1), ("11 steps", 12)):
            x, y = lines[label].get_data()
            assert (np.diff(x) > 0).all()
            np.testing.assert_allclose(y, factor * np.asarray(x), rtol=1e-6)
        assert sorted(lines["support"].get_xdata().tolist()) == episode.support.x[task, :, 0].sort().values.tolist()


def test_adaptation_leaves_the_padding_of_smaller_tasks_out():
    episode = of_unequal_size(Sinusoid(shots=5, queries=20).episodes("test", 0, 2))
    figure = adaptation(episode, torch.zeros(2, 1, 20, 1))
    points = [{line.get_label(): np.isfinite(line.get_ydata()).sum() for line in axes.lines} for axes in figure.axes]
    assert [(each["query"], each["support"]) for each in points] == [(20, 5), (18, 4)]


def test_adaptation_without_steps_shows_one_prediction():
    episode = Sinusoid(shots=5, queries=20).episodes("test", 0, 1)
    lines = adaptation(episode, episode.query.y.unsqueeze(1)).axes[0].lines
    assert [line.get_label() for line in lines] == ["query", "prediction", "support"]
