"""W&B itself, offline: what it has written of runs that were resumed, killed and tested."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import lightning as L
import pytest

from commands import changed, maml, protonet, write_yaml
from metalit.algorithms import PrototypicalNetwork
from metalit.cli import main
from metalit.data import Glyphs
from metalit.evaluation import read_results
from metalit.networks import Conv4
from metalit.runs import WandbLogger
from metalit.runs.training_log import TrainingLog
from metalit.runs.wandb_record import RECORD_FILE, RunRecord
from runs.wandb_files import STEP, read_parts

ROOT = Path(__file__).parents[2]
LOGGER = {"class_path": "metalit.runs.WandbLogger", "init_args": {"project": "tests"}}
pytestmark = pytest.mark.usefixtures("no_account")


def settings_with_wandb(tmp_path, settings, **changes):
    return write_yaml(tmp_path / "config.yaml", changed(settings, {"trainer.logger": LOGGER, **changes}))


def assert_sent_once(run_dir, parts, kills=0):
    """The parts are one run, and hold each row of metrics.csv once; a kill may have cost that file a row."""
    (run_id,) = {part.run.run_id for part in parts}
    assert RunRecord(run_dir, "other").id == run_id
    rows = [row for part in parts for row in part.rows]
    numbers = [number for number, _ in rows]
    assert numbers == sorted(set(numbers))
    cells = Counter(
        (name, row[STEP]) for _, row in rows for name in row if name.startswith(("train/", "val/"))
    )
    assert set(cells.values()) == {1}
    log = TrainingLog.read(run_dir / "metrics.csv")
    for name in {name for name, _ in cells}:
        sent = [(row[STEP], row[name]) for _, row in rows if name in row]
        curve = log.curve(name)
        logged = list(zip(curve.steps, curve.values, strict=True))
        assert [row for row in sent if row in logged] == logged, name
        assert len(sent) - len(logged) <= kills, name


def test_run_resume_and_test_are_one_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "a-sweep")
    run_dir = tmp_path / "runs" / "one"
    last, early = run_dir / "checkpoints" / "last.ckpt", tmp_path / "early.ckpt"
    # validated at every step, so that a run that stops early validates where one that goes on does
    config = settings_with_wandb(tmp_path, maml(), **{"trainer.val_check_interval": 1})
    common = ["--config", config, "--run_dir", str(run_dir)]
    main(["fit", *common, "--trainer.max_steps=2"])
    shutil.copy(last, early)
    main(["fit", *common, "--trainer.max_steps=5", "--ckpt_path=last"])
    assert_sent_once(run_dir, read_parts(run_dir))
    shutil.copy(early, last)  # as if it had been killed at step 5, with a checkpoint of step 2
    main(["fit", *common, "--trainer.max_steps=8", "--ckpt_path=last"])
    main(["test", *common, "--ckpt_path=best"])

    *fits, test = parts = read_parts(run_dir)
    assert len(fits) == 3
    assert_sent_once(run_dir, parts)
    assert {part.run.run_group for part in parts} == {"a-sweep"}
    assert {part.run.project for part in parts} == {"tests"}
    for part in parts:
        assert part.config["model"]["class_path"] == "metalit.algorithms.MAML"
        assert part.config["code"]["metalit"]
        assert set(part.tags) == {"MAML", "Glyphs"}
    assert_media_and_results(run_dir, fits[-1], test)


def assert_media_and_results(run_dir, fit, test):
    results = read_results(run_dir)
    for name, summary in results["metrics"].items():
        assert test.summary[f"test/{name}"] == pytest.approx(summary["mean"])
        assert test.summary[f"test/{name}_ci95"] == pytest.approx(summary["ci95"])
    assert test.summary["test/episodes"] == results["episodes"]
    assert test.summary["val/accuracy"] == fit.summary["val/accuracy"]
    media = {name: value for _, row in [*fit.rows, *test.rows] for name, value in row.items()}
    for figure in ("learning_curves", "episode", "adaptation_curve"):
        path = (
            (fit if figure == "learning_curves" else test).folder / "files" / media[f"figures/{figure}.path"]
        )
        assert path.read_bytes() == (run_dir / f"{figure}.png").read_bytes()
    adaptation, confusion = (
        json.loads((test.folder / "files" / media[f"test/{table}.path"]).read_text())
        for table in ("adaptation", "confusion")
    )
    assert [row[1:3] for row in adaptation["data"] if row[0] == "accuracy"] == [
        [stage["step"], stage["mean"]] for stage in results["by_step"]["accuracy"]
    ]
    queries = sum(row[confusion["columns"].index("taken")] for row in confusion["data"])
    assert queries == results["episodes"] * 5 * results["setting"]["queries"]


def test_one_word_on_the_command_line_is_enough(tmp_path):
    run_dir = tmp_path / "run"
    config = write_yaml(tmp_path / "config.yaml", protonet())
    main(["fit", "--config", config, "--run_dir", str(run_dir), "--trainer.logger=metalit.runs.WandbLogger"])
    assert_sent_once(run_dir, read_parts(run_dir))
    assert (run_dir / "learning_curves.png").exists()
    assert not (run_dir / "tensorboard").exists()


def test_quick_check_leaves_nothing(tmp_path):
    config = settings_with_wandb(tmp_path, protonet())
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run=true"])
    assert not (tmp_path / "run").exists()


def test_fit_and_test_of_one_trainer(tmp_path, fitted):
    parts = read_parts(tmp_path)
    assert len(parts) == 2
    assert len({part.run.run_id for part in parts}) == 1
    assert parts[1].summary["test/accuracy"] == pytest.approx(fitted["test/accuracy"])


@pytest.fixture
def fitted(tmp_path):
    """What a test says after a fit by the same trainer, from Python."""
    data = Glyphs(classes=8, eval_classes=5, queries=2, episodes_per_epoch=8, val_episodes=4, test_episodes=4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        default_root_dir=tmp_path, logger=WandbLogger(save_dir=str(tmp_path)), max_steps=2, log_every_n_steps=1,
        inference_mode=False, accelerator="cpu", **quiet,
    )  # fmt: skip
    learner = PrototypicalNetwork(Conv4(channels=4, batch_norm="running"))
    trainer.fit(learner, data)
    return trainer.test(learner, data, verbose=False)[0]


@pytest.mark.slow
def test_killed_run_goes_on_as_one(tmp_path):
    run_dir = tmp_path / "run"
    slow = {"trainer.max_steps": 100_000, "data.init_args.episodes_per_epoch": 8}
    config = settings_with_wandb(tmp_path, protonet(), **slow)
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", config, "--run_dir", str(run_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    for kill in (1, 2):
        process = subprocess.Popen([*command, "--ckpt_path=last"], env=environment)
        try:
            while process.poll() is None and (count_parts(run_dir) < kill or count_notes(run_dir) < 30):
                time.sleep(0.05)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
    until = RunRecord(run_dir, "other").last_step() + 10
    main([*command[2:], "--ckpt_path=last", f"--trainer.max_steps={until}"])

    (part,) = read_parts(run_dir)  # those that were killed are set aside, and all of theirs is in this one
    assert_sent_once(run_dir, [part], kills=2)
    assert len(list((run_dir / "wandb").glob("*/*.incomplete"))) == 2
    assert [row[STEP] for _, row in part.rows if "train/loss" in row] == list(range(until))


def count_parts(run_dir):
    return len(list((run_dir / "wandb").glob("offline-run-*")))


def count_notes(run_dir):
    record = run_dir / RECORD_FILE
    return len(record.read_text().splitlines()) if record.exists() else 0
