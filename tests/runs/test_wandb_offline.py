"""W&B itself, offline: what it has written of runs that were resumed, killed and tested."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import pytest

from commands import changed, maml, protonet, write_yaml
from metalit.algorithms import MAMLPolicyGradient, PrototypicalNetwork
from metalit.data import EnvironmentTasks, Glyphs
from metalit.environments import GymnasiumEnvironment
from metalit.evaluation import Figures, read_results
from metalit.main import main
from metalit.networks import MLP, Conv4, GaussianPolicy
from metalit.runs import WandbLogger
from metalit.runs.training_log import TrainingLog
from runs.wandb_files import STEP, read_parts

ROOT = Path(__file__).parents[2]
LOGGER = {"class_path": "metalit.runs.WandbLogger", "init_args": {"project": "tests"}}
pytestmark = pytest.mark.usefixtures("no_account")


def settings_with_wandb(tmp_path, settings, **changes):
    return write_yaml(tmp_path / "config.yaml", changed(settings, {"trainer.logger": LOGGER, **changes}))


def the_part(run_dir):
    """Return the one part that there is to send, which holds each row of metrics.csv once."""
    (part,) = read_parts(run_dir)
    assert part.run.run_id == (run_dir / "wandb.id").read_text().split()[0]
    names = {name for _, row in part.rows for name in row if name.startswith(("train/", "val/"))}
    assert {"train/loss", "val/loss"} <= names
    log = TrainingLog.read(run_dir / "metrics.csv")
    for name in names:
        curve = log.curve(name)
        logged = list(zip(curve.steps, curve.values, strict=True))
        assert [(row[STEP], row[name]) for _, row in part.rows if name in row] == logged, name
    return part


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
    shutil.copy(early, last)  # as if it had been killed at step 5, with a checkpoint of step 2
    main(["fit", *common, "--trainer.max_steps=8", "--ckpt_path=last"])
    fit = the_part(run_dir)
    main(["test", *common, "--ckpt_path=best"])
    part = the_part(run_dir)

    assert part.run.run_id == fit.run.run_id
    assert (part.run.run_group, part.run.project) == ("a-sweep", "tests")
    assert part.config["model"]["class_path"] == "metalit.algorithms.MAML"
    assert part.config["code"]["metalit"]
    assert set(part.tags) == {"MAML", "Glyphs"}
    assert [row[STEP] for _, row in part.rows if "train/loss" in row] == list(range(8))
    assert_media_and_results(run_dir, part)


def test_a_part_begun_in_the_same_second_is_replaced_too(tmp_path):
    run_dir = tmp_path / "runs" / "one"
    common = ["--config", settings_with_wandb(tmp_path, maml()), "--run_dir", str(run_dir)]
    main(["fit", *common, "--trainer.max_steps=2"])
    (folder,) = (run_dir / "wandb").glob("offline-run-*")
    folder.rename(f"{folder}-1")  # as W&B names the second of two
    main(["fit", *common, "--trainer.max_steps=4", "--ckpt_path=last"])
    the_part(run_dir)


def assert_media_and_results(run_dir, part):
    results = read_results(run_dir)
    for name, summary in results["metrics"].items():
        assert part.summary[f"test/{name}"] == pytest.approx(summary["mean"])
        assert part.summary[f"test/{name}_ci95"] == pytest.approx(summary["ci95"])
    assert part.summary["test/episodes"] == results["episodes"]
    assert part.summary["val/accuracy"] == [row for _, row in part.rows if "val/accuracy" in row][-1]["val/accuracy"]
    media = {name: value for _, row in part.rows for name, value in row.items()}
    for figure in ("learning_curves", "episode", "adaptation_curve"):
        path = part.folder / "files" / media[f"figures/{figure}.path"]
        assert path.read_bytes() == (run_dir / f"{figure}.png").read_bytes()
    adaptation, confusion = (
        json.loads((part.folder / "files" / media[f"test/{table}.path"]).read_text())
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
    assert the_part(run_dir)
    assert (run_dir / "learning_curves.png").exists()
    assert not (run_dir / "tensorboard").exists()


def test_quick_check_leaves_nothing(tmp_path):
    config = settings_with_wandb(tmp_path, protonet())
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run"), "--trainer.fast_dev_run=true"])
    assert not (tmp_path / "run").exists()


def test_fit_and_test_of_one_trainer(tmp_path):
    data = Glyphs(classes=8, eval_classes=5, queries=2, episodes_per_epoch=8, val_episodes=4, test_episodes=4)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = L.Trainer(
        default_root_dir=tmp_path, logger=WandbLogger(save_dir=str(tmp_path)), max_steps=2, log_every_n_steps=1,
        inference_mode=False, accelerator="cpu", **quiet,
    )  # fmt: skip
    learner = PrototypicalNetwork(Conv4(channels=4, batch_norm="running"))
    trainer.fit(learner, data)
    (tested,) = trainer.test(learner, data, verbose=False)
    fit, test = read_parts(tmp_path)
    assert fit.run.run_id == test.run.run_id
    assert test.summary["test/accuracy"] == pytest.approx(tested["test/accuracy"])


def test_a_film_is_sent_as_it_is(tmp_path):
    pytest.importorskip("gymnasium", reason="needs metalit[rl], which is not installed")
    from evaluation.sliding_dot import SlidingDot

    environment = GymnasiumEnvironment(SlidingDot, {"goal": (-1.0, 1.0)}, horizon=5)
    data = EnvironmentTasks(environment, shots=2, queries=2, test_episodes=2, eval_tasks_per_batch=2)
    trainer = L.Trainer(
        default_root_dir=tmp_path, logger=WandbLogger(save_dir=str(tmp_path)), callbacks=[Figures(dpi=40)],
        inference_mode=False, accelerator="cpu", enable_progress_bar=False,
    )  # fmt: skip
    trainer.test(MAMLPolicyGradient(GaussianPolicy(MLP(1, [4], 1), actions=1)), data, verbose=False)
    (part,) = read_parts(tmp_path)
    sent = {name: value for _, row in part.rows for name, value in row.items()}
    assert sent["figures/film._type"] == "video-file"
    for name, kind in (("film", "gif"), ("frames", "png"), ("adaptation_curve", "png")):
        path = part.folder / "files" / sent[f"figures/{name}.path"]
        assert path.read_bytes() == (tmp_path / f"{name}.{kind}").read_bytes()


@pytest.mark.slow
def test_killed_run_goes_on_as_one(tmp_path):
    run_dir = tmp_path / "run"
    slow = {"trainer.max_steps": 100_000, "data.init_args.episodes_per_epoch": 8}
    config = settings_with_wandb(tmp_path, protonet(), **slow)
    command = [sys.executable, str(ROOT / "train.py"), "fit", "--config", config, "--run_dir", str(run_dir)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    steps = 0
    for kill in (1, 2):
        process = subprocess.Popen([*command, "--ckpt_path=last"], env=environment)
        try:
            until = time.monotonic() + 300
            while process.poll() is None and (count_parts(run_dir) < kill or last_step(run_dir) < steps + 20):
                assert time.monotonic() < until
                time.sleep(0.05)
            assert process.poll() is None
        finally:
            process.kill()
            process.wait()
        steps = last_step(run_dir)
    main([*command[2:], "--ckpt_path=last", f"--trainer.max_steps={steps + 10}"])

    part = the_part(run_dir)  # those that were killed are set aside
    assert len(list((run_dir / "wandb").glob("*/*.incomplete"))) == 2
    assert [row[STEP] for _, row in part.rows if "train/loss" in row] == list(range(steps + 10))


def count_parts(run_dir):
    return len(list((run_dir / "wandb").glob("offline-run-*")))


def last_step(run_dir):
    return int(max(TrainingLog.read(run_dir / "metrics.csv").curve("train/loss").steps, default=0))
