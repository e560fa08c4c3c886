"""The metrics of a run, read from all parts of its log."""

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
