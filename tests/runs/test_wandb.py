"""The Weights & Biases logger: where it runs, one run over all resumes, nothing twice, nothing that can end a run.

Here the logger is asked what it tells W&B; test_wandb_offline.py reads W&B's own files.
"""

import csv
import os
import pickle
import socket
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from commands import write_yaml
from metalit.files import keep_old
from metalit.runs import WandbLogger
from metalit.runs.wandb_logger import choose_mode
from runs.wandb_files import STEP, read_parts

KEY = "0" * 40
pytestmark = pytest.mark.usefixtures("no_account")


class FakeRun:
    """Keeps what is logged, by the row's number, as W&B does."""

    numbers, at = count(), 0  # ``at`` is what the server says comes next

    def __init__(self, **options):
        self.options, self.id, self.tags = options, options["id"], options["tags"]
        self.settings, self.step = SimpleNamespace(mode=options["mode"]), self.at
        kind = "offline-run" if options["mode"] == "offline" else "run"
        self.file = Path(options["dir"]) / "wandb" / f"{kind}-{next(self.numbers)}-{self.id}/run-{self.id}.wandb"
        self.file.parent.mkdir(parents=True)
        self.file.touch()
        self.rows, self.summary, self.config, self.exit_code = {}, {}, FakeConfig(), None

    def log(self, row, step):
        assert step >= max(self.rows, default=self.step)
        self.rows[step] = self.rows.get(step, {}) | row

    def define_metric(self, *args, **options):
        pass

    def finish(self, exit_code):
        self.exit_code = exit_code


class FakeConfig(dict):
    def update(self, values, allow_val_change):
        super().update(values)


@pytest.fixture
def runs(monkeypatch):
    """The runs that are opened, in place of W&B's own; offline."""
    opened = []

    def init(**options):
        opened.append(FakeRun(**options))
        return opened[-1]

    monkeypatch.setattr("wandb.init", init)
    monkeypatch.setattr("wandb.login", lambda **options: True)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return opened


def set_mode(monkeypatch, mode):
    import wandb  # a second that collecting the tests does not need

    monkeypatch.setenv("WANDB_MODE", mode)
    wandb.teardown()


def go_online(monkeypatch, step=0):
    monkeypatch.setattr(FakeRun, "at", step)
    set_mode(monkeypatch, "online")


def logger_of(folder, *, is_new=False, **options):
    logger = WandbLogger(**options)
    logger.use_folder(folder, is_new=is_new)
    return logger


def train(folder, steps, *, written=None, is_new=False):
    """Train in a process that ends well, or is killed when the first so many steps are ``written`` to the disk."""
    logger = logger_of(folder, is_new=is_new)
    keep_old(folder / "metrics.csv")
    assert logger.experiment
    rows = [(step, {"train/loss": 1.0 / (step + 1), "epoch": 0}) for step in steps]
    rows += [(step, {"val/loss": 2.0 / (step + 1), "epoch": 0}) for step in steps if step % 3 == 2]
    rows.sort(key=lambda row: row[0])
    for step, metrics in rows:
        logger.log_metrics(metrics, step=step)
    if written != 0:
        with (folder / "metrics.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", "step", "train/loss", "val/loss"])
            writer.writeheader()
            writer.writerows({**metrics, "step": step} for step, metrics in rows if step in steps[:written])
    if written is None:
        logger.finalize("success")
    return logger


def sent(runs, name="train/loss"):
    """Return what is at W&B when all parts have been sent."""
    kept = [run for run in runs if run.file.exists()]
    return [(row[STEP], row[name]) for run in kept for _, row in sorted(run.rows.items()) if name in row]


def assert_whole(runs, steps):
    assert sent(runs) == [(step, 1.0 / (step + 1)) for step in range(steps)]
    assert sent(runs, "val/loss") == [(step, 2.0 / (step + 1)) for step in range(2, steps, 3)]
    assert len({run.id for run in runs}) == 1


def mark_sent(run):
    run.file.with_suffix(".wandb.synced").touch()


# where it runs ------------------------------------------------------------------------------------------------------


def test_offline_without_an_account():
    mode, reason = choose_mode()
    assert mode == "offline"
    assert "API key" in reason


@pytest.mark.parametrize("source", ["variable", "netrc"])
def test_online_with_an_account(source, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_SILENT", "true")  # else it asks the server for the account's name, to say it
    if source == "variable":
        monkeypatch.setenv("WANDB_API_KEY", KEY)
    else:
        (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {KEY}\n")
    assert choose_mode() == ("online", "")


@pytest.mark.parametrize("mode", ["offline", "disabled"])
def test_users_choice_comes_first(mode, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", mode)
    assert choose_mode()[0] == mode


def test_offline_if_the_server_is_silent(monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for name, value in {"API_KEY": KEY, "SILENT": "true", "INIT_TIMEOUT": "2"}.items():
            monkeypatch.setenv(f"WANDB_{name}", value)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        logger = logger_of(tmp_path / "run")
        assert logger.experiment.settings.mode == "offline"
    logger.log_metrics({"train/loss": 1.0}, step=0)
    logger.finalize("success")
    assert [row["train/loss"] for part in read_parts(tmp_path / "run") for _, row in part.rows] == [1.0]


# one run, nothing twice ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("written", [None, 0, 4, 5, 7])
def test_offline_the_last_part_has_everything(written, runs, tmp_path):
    train(tmp_path, range(7), written=written)
    train(tmp_path, range(0 if written == 0 else 4, 10), written=10)
    train(tmp_path, range(9, 14))
    assert_whole(runs, 14)
    assert [run.file.exists() for run in runs] == [False, False, True]
    assert [run.file.with_suffix(".wandb.incomplete").exists() for run in runs] == [True, True, False]


def test_what_was_sent_is_not_sent_again(runs, tmp_path):
    train(tmp_path, range(7))
    mark_sent(runs[0])
    train(tmp_path, range(5, 9))
    train(tmp_path, range(7, 11), written=2)
    train(tmp_path, range(9, 12))
    assert_whole(runs, 12)
    assert [run.file.exists() for run in runs] == [True, False, False, True]


@pytest.mark.parametrize("at", [0, 31, 42, 61])
def test_online_the_server_says_what_it_lacks(at, runs, tmp_path, monkeypatch):
    go_online(monkeypatch)
    train(tmp_path, range(7), written=5)
    runs[0].rows = {number: row for number, row in runs[0].rows.items() if number < at}
    go_online(monkeypatch, step=at)
    train(tmp_path, range(4, 9))
    assert_whole(runs, 9)
    assert [run.options["resume"] for run in runs] == ["allow", "allow"]


def test_offline_online_and_offline_again(runs, tmp_path, monkeypatch):
    train(tmp_path, range(5))
    go_online(monkeypatch)
    train(tmp_path, range(4, 8))
    set_mode(monkeypatch, "offline")
    train(tmp_path, range(6, 11))
    assert_whole(runs, 11)
    assert [run.settings.mode for run in runs] == ["offline", "online", "offline"]


def test_what_a_step_logs_at_several_times_is_kept(runs, tmp_path):
    logger = logger_of(tmp_path)
    for step in range(2):
        for name in ("lr-Adam", "train/loss", "val/loss", "train/loss_epoch"):
            logger.log_metrics({name: 0.5}, step=step)
    for name in ("lr-Adam", "train/loss", "val/loss", "train/loss_epoch"):
        assert sent(runs, name) == [(0, 0.5), (1, 0.5)]


def test_figures_and_results_go_with_the_part_that_has_everything(runs, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "of_before.png")
    train(tmp_path, range(3))
    test = logger_of(tmp_path)
    test.log_metrics({"test/accuracy": 0.75, "epoch": 0}, step=0)
    Image.new("RGB", (8, 8)).save(tmp_path / "episode.png")
    test.finalize("success")
    assert [name for name, _ in media(runs)] == ["figures/episode", "figures/of_before"]
    assert runs[1].summary == {"test/accuracy": 0.75}
    mark_sent(runs[1])
    train(tmp_path, range(3, 5))
    assert media(runs[2:]) == []
    assert_whole(runs, 5)


def media(runs):
    kept = [row for run in runs if run.file.exists() for row in run.rows.values()]
    return sorted((name, row[STEP]) for row in kept for name in row if name.startswith("figures/"))


@pytest.mark.parametrize("written", [0, 2, None])
def test_training_from_the_beginning_is_a_new_run(written, runs, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "episode.png")
    train(tmp_path, range(9))
    for path in tmp_path.glob("*.*"):
        os.utime(path, (1e9, 1e9))
    train(tmp_path, range(3), is_new=True, written=written)
    train(tmp_path, range(written or 0, 5))
    assert runs[0].id != runs[1].id
    assert_whole(runs[1:], 5)
    assert media(runs[1:]) == []


def test_without_metrics_csv_all_parts_stay(runs, tmp_path):
    for steps in (range(3), range(3, 5)):
        logger = WandbLogger(save_dir=str(tmp_path))
        for step in steps:
            logger.log_metrics({"train/loss": 1.0 / (step + 1)}, step=step)
        logger.finalize("success")
    assert [step for step, _ in sent(runs)] == list(range(5))
    assert runs[0].id == runs[1].id == logger.version


# what is said of a run ----------------------------------------------------------------------------------------------


def test_group_tags_and_limits(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7")
    folder = tmp_path / "sweep" / "seed-1"
    logger = logger_of(folder, group="sweep", tags=["mine"], project="p", notes="n")
    assert logger.experiment is runs[0]
    config = {"model": {"class_path": "a.MAML"}, "data": {"class_path": "b.Omniglot"}, "threads": 2}
    write_yaml(folder / "config.yaml", config)
    logger.log_metrics({"train/loss": 1.0}, step=0)
    (run,) = runs
    asked = {name: run.options[name] for name in ("name", "group", "project", "notes", "mode", "resume")}
    assert asked == {
        "name": "sweep/seed-1", "group": "sweep", "project": "p", "notes": "n", "mode": "offline", "resume": None,
    }  # fmt: skip
    assert run.tags == ("MAML", "Omniglot", "mine")
    assert run.config["threads"] == 2
    assert run.config["code"]["metalit"]
    assert "init_timeout" not in run.options["settings"]  # the user's own
    assert run.options["settings"]["finish_timeout"] > 0


def test_only_the_first_rank_logs(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = logger_of(tmp_path / "run")
    logger.log_metrics({"train/loss": 1.0}, step=0)
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert runs == []
    assert not (tmp_path / "run").exists()


def test_other_processes_get_the_logger_without_the_run(runs, tmp_path):
    logger = train(tmp_path, range(2), written=2)
    copied = pickle.loads(pickle.dumps(logger))
    assert copied.version == logger.version == runs[0].id
    assert len(runs) == 1


@pytest.mark.parametrize("failing", ["log", "finish", "init"])
def test_failure_of_wandb_does_not_end_the_run(failing, runs, tmp_path, monkeypatch):
    def fail(*args, **options):
        raise ConnectionError("the service is gone")

    monkeypatch.setattr(*(("wandb.init",) if failing == "init" else (FakeRun, failing)), fail)
    logger = logger_of(tmp_path)

    def log():
        logger.log_metrics({"train/loss": 1.0}, step=0)
        logger.finalize("success")

    with pytest.warns(UserWarning, match=r"W&B gets no more of this run \(the service is gone\)"):
        log()
    logger.log_metrics({"train/loss": 1.0, "test/accuracy": 1.0}, step=1)
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert len(runs) == (failing != "init")
