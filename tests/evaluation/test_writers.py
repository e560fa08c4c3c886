"""The callbacks that write results and predictions."""

import csv
from dataclasses import replace

import lightning as L
import pytest
import torch

import metalit
from metalit.evaluation import PredictionWriter, ResultsWriter, read_episodes, read_results
from metalit.metrics import summarise


def test_results_of_a_test(make_trainer, regression, tmp_path, capsys):
    learner, data = regression
    trainer = make_trainer(ResultsWriter())
    trainer.test(learner, data, verbose=False)
    results, episodes = read_results(tmp_path), read_episodes(tmp_path)
    assert (results["split"], results["episodes"], results["checkpoint"]) == ("test", 9, None)
    assert results["setting"] == {**data.setting(), **learner.setting()}
    assert results["versions"]["metalit"] == metalit.__version__
    assert results["versions"]["lightning"] == L.__version__
    assert set(results["versions"]) == {"metalit", "torch", "lightning", "python"}
    assert results["metrics"]["mse"] == pytest.approx(summarise(episodes["mse"])._asdict())
    assert len(results["by_step"]["mse"]) == 4
    outcome = learner.evaluate(data.episodes("test", 0, 9))
    torch.testing.assert_close(episodes["loss_step0"], outcome.loss[:, 0].double())
    printed = capsys.readouterr().out
    assert "mse after step 3" in printed
    assert str(tmp_path / "results.json") in printed


def test_results_name_the_checkpoint(make_trainer, images, tmp_path):
    learner, data = images
    trainer = make_trainer(ResultsWriter(), max_epochs=1)
    trainer.fit(learner, data)
    assert not (tmp_path / "results.json").exists()  # validation within fit is in the log
    trainer.save_checkpoint(tmp_path / "some.ckpt")
    trainer.test(learner, data, ckpt_path=str(tmp_path / "some.ckpt"), verbose=False)
    results = read_results(tmp_path)
    assert results["checkpoint"] == str(tmp_path / "some.ckpt")
    assert set(results["metrics"]) == {"loss", "accuracy"}
    assert results["setting"]["ways"] == 3


def test_a_standalone_validation_writes_its_results(make_trainer, regression, tmp_path):
    trainer = make_trainer(ResultsWriter(show_table=False))
    trainer.validate(*regression, verbose=False)
    assert read_results(tmp_path)["split"] == "val"
    assert read_results(tmp_path)["episodes"] == 6


def test_a_trial_run_writes_nothing(make_trainer, regression, tmp_path, loader):
    learner, data = regression
    trainer = make_trainer(ResultsWriter(), PredictionWriter(), fast_dev_run=True)
    trainer.test(learner, data, verbose=False)
    trainer.predict(learner, loader(data.episodes("test", 0, 2)))
    assert list(tmp_path.iterdir()) == []


def rows_of(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_in_classification(make_trainer, images, tmp_path, loader):
    learner, data = images
    first, second = data.episodes("test", 0, 2), data.episodes("test", 2, 2)
    make_trainer(PredictionWriter()).predict(learner, loader(first, second), return_predictions=False)
    rows = rows_of(tmp_path / "predictions.csv")
    assert list(rows[0]) == ["episode", "query", "target", "prediction", "probability"]
    queries = [(int(row["episode"]), int(row["query"])) for row in rows]
    assert queries == [(episode, query) for episode in range(4) for query in range(12)]
    logits = torch.cat([learner.evaluate(episode).predictions[:, -1] for episode in (first, second)])
    probability, prediction = logits.softmax(-1).max(-1)
    assert [int(row["prediction"]) for row in rows] == prediction.flatten().tolist()
    assert [float(row["probability"]) for row in rows] == pytest.approx(probability.flatten().tolist(), rel=1e-5)
    targets = torch.cat([first.query.y, second.query.y])
    assert [int(row["target"]) for row in rows] == targets.flatten().tolist()


def test_predictions_in_regression(make_trainer, regression, tmp_path, loader):
    learner, data = regression
    episode = data.episodes("test", 0, 3)
    make_trainer(PredictionWriter()).predict(learner, loader(episode), return_predictions=False)
    rows = rows_of(tmp_path / "predictions.csv")
    assert list(rows[0]) == ["episode", "query", "target", "prediction"]
    expected = learner.evaluate(episode).predictions[:, -1].flatten().tolist()
    assert [float(row["prediction"]) for row in rows] == pytest.approx(expected)
    assert [float(row["target"]) for row in rows] == pytest.approx(episode.query.y.flatten().tolist())


def test_predictions_of_several_outputs_are_numbered(make_trainer, tmp_path):
    writer, trainer = PredictionWriter(), make_trainer()
    table = torch.arange(4.0).reshape(1, 2, 2)
    outputs = {"index": torch.tensor([5]), "predictions": table, "targets": table + 10}
    writer.on_predict_batch_end(trainer, L.LightningModule(), outputs, None, 0)
    writer.on_predict_end(trainer, L.LightningModule())
    rows = rows_of(tmp_path / "predictions.csv")
    assert rows[1] == {
        "episode": "5", "query": "1", "target_0": "12.0", "target_1": "13.0", "prediction_0": "2.0",
        "prediction_1": "3.0",
    }  # fmt: skip


def test_predictions_have_the_names_of_classes_and_files(make_trainer, images, tmp_path):
    learner, data = images
    load = data.load

    def with_names(split):
        store = load(split)
        return replace(store, example_names=[f"{split}/{row}.png" for row in range(len(store.items))])

    data.load = with_names
    make_trainer(PredictionWriter()).predict(learner, datamodule=data, return_predictions=False)
    rows = rows_of(tmp_path / "predictions.csv")
    store, episode = data.stores["test"], data.streams["test"](7, 1)
    own = [row for row in rows if row["episode"] == "7"]
    # the file says the class: 8 images of each, one class after another
    assert [row["file"] for row in own] == [f"test/{number}.png" for number in episode.query.x[0].tolist()]
    assert [row["target_class"] for row in own] == [f"test{number // 8}" for number in episode.query.x[0].tolist()]
    classes = data.names("test", 7).classes
    assert [row["prediction_class"] for row in own] == [classes[int(row["prediction"])] for row in own]
    assert len(store.example_names) == 48
