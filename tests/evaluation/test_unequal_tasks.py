"""Runs on tasks of unequal size, and with metrics that some tasks do not have."""

import csv
import math

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from rich.console import Console
from scipy.stats import pearsonr

from metalit.algorithms import MAML, SNAIL
from metalit.errors import UserError
from metalit.evaluation import Figures, PredictionWriter, ResultsWriter, paired_difference, read_episodes, read_results
from metalit.evaluation.results import build_results, write_results
from metalit.evaluation.table import results_table
from metalit.metrics import Evaluation, summarise
from metalit.networks import MLP
from padding import UnequalSinusoids

SIZES = {"tasks_per_batch": 4, "episodes_per_epoch": 40, "val_episodes": 6, "test_episodes": 9,
         "eval_tasks_per_batch": 4}  # fmt: skip


@pytest.fixture
def unequal():
    torch.manual_seed(0)
    return MAML(MLP(1, [8], 1), inner_lr=0.01, inner_steps=2), UnequalSinusoids(shots=5, queries=7, **SIZES)


def test_undefined_tasks_are_counted_and_left_out(make_trainer, unequal, tmp_path, capsys):
    learner, data = unequal
    make_trainer(ResultsWriter()).test(learner, data, verbose=False)
    results, episodes = read_results(tmp_path), read_episodes(tmp_path)
    assert {name.removesuffix("_before_adaptation") for name in results["metrics"]} == {"loss", "rmse", "pearson"}
    assert episodes["pearson"].isnan().nonzero().flatten().tolist() == [1, 4, 7]
    assert results["metrics"]["pearson"]["undefined"] == 3
    assert "undefined" not in results["metrics"]["rmse"]
    assert [entry["undefined"] for entry in results["by_step"]["pearson"]] == [3, 3, 3]
    # episode 2 is the third of its batch: whole; episode 3 is not
    for task, queries in ((2, 7), (3, 5)):
        found = learner.evaluate(data.episodes("test", 0, 4)).predictions[task, -1, :queries, 0]
        right = data.episodes("test", 0, 4).query.y[task, :queries, 0]
        assert episodes["pearson"][task].item() == pytest.approx(pearsonr(found, right).statistic, abs=1e-6)
    defined = episodes["pearson"][~episodes["pearson"].isnan()]
    assert results["metrics"]["pearson"]["mean"] == pytest.approx(defined.mean().item())
    assert "(3 undefined)" in (printed := capsys.readouterr().out)
    assert "does not exist" in " ".join(printed.split())
    with (tmp_path / "episodes.csv").open() as file:
        assert [row["pearson"] == "" for row in csv.DictReader(file)] == [i % 3 == 1 for i in range(9)]


def test_a_metric_that_no_task_has_is_none(make_trainer, unequal, tmp_path, capsys):
    learner, data = unequal
    data.constant_every = 1
    data.metrics = ("pearson",)
    data.finish = lambda episode, _: episode._replace(query=episode.query._replace(y=0 * episode.query.y))
    trainer = make_trainer(ResultsWriter())
    trainer.test(learner, data, verbose=False)
    assert read_results(tmp_path)["metrics"]["pearson"] == {"mean": None, "ci95": None, "std": None, "undefined": 9}
    assert "– (9 undefined)" in capsys.readouterr().out
    assert math.isnan(trainer.logged_metrics["test/pearson"])


def test_a_correlation_can_choose_the_checkpoint(make_trainer, unequal):
    learner, data = unequal
    best = ModelCheckpoint(monitor="val/pearson", mode="max")
    trainer = make_trainer(best, max_epochs=2, enable_checkpointing=True, log_every_n_steps=1)
    trainer.fit(learner, data)
    values = learner.last_evaluation.values["pearson"][:, -1]
    assert values.isnan().sum() == 2
    assert trainer.callback_metrics["val/pearson"].item() == pytest.approx(values.nanmean().item())
    assert best.best_model_score.isfinite()
    assert {"train/rmse", "train/pearson"} <= trainer.callback_metrics.keys()


def test_training_logs_the_mean_of_the_tasks_that_have_the_metric(make_trainer, unequal):
    learner, data = unequal
    trainer = make_trainer(max_steps=1, log_every_n_steps=1, limit_val_batches=0)
    first = data.episodes("train", 0, 4)
    with torch.no_grad():
        predictions = learner(first).predictions
    trainer.fit(learner, data)
    places = first.query.mask
    expected = [pearsonr(predictions[t, places[t], 0], first.query.y[t, places[t], 0]).statistic for t in (0, 2, 3)]
    assert trainer.callback_metrics["train/pearson"].item() == pytest.approx(sum(expected) / 3, abs=1e-6)


def test_predictions_and_figures_leave_padding_out(make_trainer, unequal, tmp_path):
    learner, data = unequal
    trainer = make_trainer(PredictionWriter(), Figures(tasks=2))
    trainer.predict(learner, data)
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    counts = [sum(int(row["episode"]) == episode for row in rows) for episode in range(9)]
    assert counts == [7, 5, 7, 5, 7, 5, 7, 5, 7]  # batches of 4, 4 and 1
    trainer.test(learner, data, verbose=False)
    assert {"adaptation.png", "adaptation_curve.png"} <= {path.name for path in tmp_path.iterdir()}


def test_a_method_that_does_not_honour_masks_stops_before_it_learns(make_trainer, unequal):
    data = unequal[1]
    learner = SNAIL(MLP(1, [8], 8), support_size=5)
    with pytest.raises(UserError, match=r"^SNAIL .*unequal size"):
        make_trainer(max_epochs=1, limit_val_batches=0).fit(learner, data)


def evaluation(*values):
    return Evaluation(torch.arange(len(values)), {"pearson": torch.tensor(values, dtype=torch.float64).unsqueeze(1)})


def test_differences_are_those_of_episodes_defined_in_both_runs(tmp_path):
    runs = {"a": evaluation(0.5, math.nan, 0.25, 0.75), "b": evaluation(0.25, 0.5, math.nan, 0.25)}
    for name, values in runs.items():
        write_results(tmp_path / name, build_results("test", values, {}, None, {}), values)
    found = paired_difference(tmp_path / "a", tmp_path / "b", "pearson")
    assert found == summarise(torch.tensor([0.25, 0.5]))


def test_table_says_where_a_metric_is_undefined():
    console = Console(width=100)
    with console.capture() as capture:
        console.print(results_table(build_results("test", evaluation(0.5, math.nan, 0.25), {}, None, {})))
    assert "(1 undefined)" in (text := capture.get())
    assert "left out of its mean" in " ".join(text.split())
    with console.capture() as capture:
        console.print(results_table(build_results("test", evaluation(0.5, 0.25), {}, None, {})))
    assert "undefined" not in capture.get()
