"""Figures: what is drawn is what was measured, and each run gets those that fit it."""

import sys

import matplotlib.image
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color

from metalit.data import Sinusoid
from metalit.episode import Episode, Labelled
from metalit.evaluation import Figures
from metalit.evaluation.episode_sheet import RIGHT, WRONG, episode_sheet, is_sheet_possible
from metalit.evaluation.figures import adaptation, adaptation_curve, learning_curves
from metalit.metrics import Summary
from metalit.runs.training_log import TrainingLog


def write_log(path, rows):
    names = sorted({name for row in rows for name in row})
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")


def test_log_of_a_run(tmp_path):
    write_log(
        tmp_path / "metrics.csv",
        [{"step": 1, "train/loss": 3.0}, {"step": 2, "val/loss": 2.0, "val/loss_ci95": "nan"}],
    )
    log = TrainingLog.read(tmp_path / "metrics.csv")
    assert (log.curve("train/loss").steps.tolist(), log.curve("train/loss").values.tolist()) == ([1], [3])
    assert log.curve("val/loss").steps.tolist() == [2]
    assert len(log.curve("val/loss_ci95").steps) == 0
    assert log.has("loss")
    assert not log.has("accuracy")


def test_log_of_a_resumed_run_has_every_step_once(tmp_path):
    write_log(tmp_path / "metrics-1.csv", [{"step": step, "train/loss": 1.0} for step in (1, 2, 3, 4)])
    write_log(tmp_path / "metrics-2.csv", [{"step": step, "train/loss": 2.0} for step in (3, 4, 5)])
    write_log(tmp_path / "metrics.csv", [{"step": step, "train/loss": 3.0} for step in (5, 6)])
    curve = TrainingLog.read(tmp_path / "metrics.csv").curve("train/loss")
    assert curve.steps.tolist() == [1, 2, 3, 4, 5, 6]
    assert curve.values.tolist() == [1, 1, 2, 2, 3, 3]


def test_a_part_may_start_with_the_validation_of_a_step_trained_before(tmp_path):
    (tmp_path / "metrics-1.csv").write_text("step,train/loss,val/loss\n1,5,\n2,4,\n3,3,\n")
    (tmp_path / "metrics.csv").write_text("step,train/loss,val/loss\n2,,9\n3,2,\n")
    log = TrainingLog.read(tmp_path / "metrics.csv")
    assert log.curve("train/loss").values.tolist() == [5, 4, 2]
    assert log.curve("train/loss").steps.tolist() == [1, 2, 3]
    assert log.curve("val/loss").values.tolist() == [9]


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


def test_adaptation_without_steps_shows_one_prediction():
    episode = Sinusoid(shots=5, queries=20).episodes("test", 0, 1)
    lines = adaptation(episode, episode.query.y.unsqueeze(1)).axes[0].lines
    assert [line.get_label() for line in lines] == ["query", "prediction", "support"]


def picture_episode(channels: int = 1, ways: int = 3, shots: int = 2, queries: int = 4) -> Episode:
    def part(each: int) -> Labelled:
        y = torch.arange(ways).repeat_interleave(each).unsqueeze(0)
        return Labelled(torch.rand(1, ways * each, channels, 6, 6), y)

    return Episode(part(shots), part(queries), torch.arange(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_frames_right_and_wrong_queries(channels):
    episode = picture_episode(channels)
    predicted = episode.query.y.clone()
    predicted[0, 5] = 2  # an image of class 1
    figure = episode_sheet(episode, torch.nn.functional.one_hot(predicted, 3).float())
    (axes,) = figure.axes
    assert len(axes.images) == 3 * (2 + 4)
    frames = [patch.get_edgecolor() for patch in axes.patches]
    assert sum(same_color(frame, RIGHT) for frame in frames) == 11
    assert sum(same_color(frame, WRONG) for frame in frames) == 1
    texts = [text.get_text() for text in axes.texts]
    assert "2 (true 1)" in texts
    assert "query: 11 of 12 recognised" in texts


def test_sheet_shows_strokes_dark_and_leaves_colours():
    grey, coloured = (
        picture_episode(1, ways=2, shots=1, queries=1),
        picture_episode(3, ways=2, shots=1, queries=1),
    )
    for episode, invert in ((grey, True), (coloured, False)):
        low = min(part.x.min() for part in episode[:2])
        high = max(part.x.max() for part in episode[:2])
        image = (episode.support.x[0, 0] - low) / (high - low)
        expected = (1 - image).expand(3, 6, 6) if invert else image
        drawn = episode_sheet(episode, torch.eye(2).unsqueeze(0)).axes[0].images[0].get_array()
        np.testing.assert_allclose(drawn, expected.permute(1, 2, 0), atol=1e-6)


def test_sheet_of_many_ways_shows_the_first_ten():
    episode = picture_episode(1, ways=20, shots=7, queries=9)
    axes = episode_sheet(episode, torch.zeros(1, 180, 20)).axes[0]
    assert len(axes.images) == 10 * (5 + 8)


def test_a_sheet_needs_images():
    assert is_sheet_possible(picture_episode())
    assert not is_sheet_possible(picture_episode(channels=2))
    assert not is_sheet_possible(Sinusoid().episodes("test", 0, 1))


def test_figures_of_a_regression_run(make_trainer, regression, tmp_path):
    logger = CSVLogger(tmp_path, name="", version="")
    trainer = make_trainer(Figures(tasks=2, dpi=50), logger=logger)
    trainer.fit(*regression)
    trainer.test(*regression, verbose=False)
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {"learning_curves", "adaptation", "adaptation_curve"}
    for name in drawn:
        pixels = matplotlib.image.imread(tmp_path / f"{name}.png")
        assert pixels[..., :3].std() > 0.05  # not an empty sheet


def test_figures_of_an_image_run_without_steps(make_trainer, images, tmp_path):
    trainer = make_trainer(Figures(dpi=50))
    trainer.fit(*images)
    trainer.test(*images, verbose=False)
    assert {path.name for path in tmp_path.glob("*")} == {"episode.png"}


def test_figures_follow_the_precision_of_the_run(make_trainer, regression, tmp_path):
    make_trainer(Figures(dpi=50), precision="64-true").test(*regression, verbose=False)
    assert (tmp_path / "adaptation.png").exists()


def test_drawing_leaves_pyplot_alone(make_trainer, regression):
    make_trainer(Figures(dpi=50)).test(*regression, verbose=False)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_a_trial_run_draws_nothing(make_trainer, regression, tmp_path):
    trainer = make_trainer(Figures(), fast_dev_run=True)
    trainer.fit(*regression)
    trainer.test(*regression, verbose=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("wrong", [{"tasks": 0}, {"dpi": 0}])
def test_wrong_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} is 0"):
        Figures(**wrong)
