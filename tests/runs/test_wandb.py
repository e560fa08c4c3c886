"""The Weights & Biases logger: where it runs, one run over all resumes, nothing twice, nothing that can end a run.

Here W&B is asked where it would run, and the logger what it tells W&B; test_wandb_offline.py reads W&B's own files.
"""

import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from commands import write_yaml
from metalit.runs import WandbLogger
from metalit.runs.wandb_mode import choose_mode
from metalit.runs.wandb_record import RECORD_FILE, RunRecord
from runs.wandb_files import STEP, read_parts

KEY = "0" * 40
pytestmark = pytest.mark.usefixtures("no_account")


class Answer(BaseHTTPRequestHandler):
    """Answers as a server does that wants to be asked something else."""

    def do_HEAD(self):
        self.send_error(404)

    def log_message(self, *args):
        pass


@contextmanager
def server():
    """Run a server that answers, and give its address."""
    http = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=http.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


@contextmanager
def silent_server():
    """Listen, and never say anything."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@contextmanager
def closed_port():
    """Give an address at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    yield f"http://127.0.0.1:{port}"


class FakeRun:
    """Keeps what is logged."""

    numbers, at = count(), 0

    def __init__(self, **options):
        self.options, self.id, self.tags = options, options["id"], options["tags"]
        self.settings, self.step = SimpleNamespace(mode=options["mode"]), self.at
        kind = "offline-run" if options["mode"] == "offline" else "run"
        self.part = Path(options["dir"]) / "wandb" / f"{kind}-{next(self.numbers)}-{self.id}"
        self.dir = str(self.part / "files")
        self.part.mkdir(parents=True)
        (self.part / f"run-{self.id}.wandb").touch()
        self.rows, self.summary, self.config, self.exit_code = [], {}, FakeConfig(), None

    def log(self, row, step, commit):
        assert commit
        self.rows.append((step, row))

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
    import wandb

    opened = []

    def init(**options):
        opened.append(FakeRun(**options))
        return opened[-1]

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "offline")
    return opened


def logger_of(folder, *, anew=False, **options):
    logger = WandbLogger(**options)
    logger.use_folder(folder, anew=anew)
    return logger


def log_steps(logger, steps):
    for step in steps:
        logger.log_metrics({"train/loss": 1.0 / (step + 1), "epoch": 0}, step=step)


def logged(runs, name="train/loss"):
    return [(row[STEP], row[name]) for run in runs for _, row in run.rows if name in row]


# where it runs ------------------------------------------------------------------------------------------------------


def test_offline_without_an_account():
    mode = choose_mode()
    assert mode.name == "offline"
    assert "API key" in mode.reason


@pytest.mark.parametrize("source", ["variable", "netrc"])
def test_online_with_an_account_and_a_server(source, monkeypatch, tmp_path):
    with server() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        if source == "variable":
            monkeypatch.setenv("WANDB_API_KEY", KEY)
        else:
            host = url.removeprefix("http://")
            (tmp_path / "netrc").write_text(f"machine {host}\n  login user\n  password {KEY}\n")
        assert choose_mode() == ("online", "")


@pytest.mark.parametrize("network", [closed_port, silent_server])
def test_start_is_not_blocked(network, monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with network() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        logger = logger_of(tmp_path / "run")
        start = time.monotonic()
        run = logger.experiment
        took = time.monotonic() - start
    assert took < 15
    assert run.settings.mode == "offline"
    log_steps(logger, [0])
    logger.finalize("success")
    (part,) = read_parts(tmp_path / "run")
    assert [row["train/loss"] for _, row in part.rows] == [1.0]


@pytest.mark.parametrize("mode", ["online", "offline", "disabled"])
def test_users_choice_comes_first(mode, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    with closed_port() as url:
        monkeypatch.setenv("WANDB_BASE_URL", url)
        monkeypatch.setenv("WANDB_MODE", mode)
        assert choose_mode().name == mode


def test_server_that_refuses_the_key_makes_it_offline(monkeypatch, tmp_path, runs):
    import wandb

    asked = []

    def refuse(**options):
        asked.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.CommError("not logged in")
        return FakeRun(**options)

    monkeypatch.setattr(wandb, "init", refuse)
    monkeypatch.setenv("WANDB_MODE", "online")
    log_steps(logger_of(tmp_path), [0])
    assert asked == ["online", "offline"]


# one run, nothing twice ---------------------------------------------------------------------------------------------


def test_resumed_run_goes_on_and_sends_nothing_twice(runs, tmp_path):
    interrupted = logger_of(tmp_path)
    log_steps(interrupted, range(7))
    interrupted.finalize("failed")
    resumed = logger_of(tmp_path)
    log_steps(resumed, range(4, 10))
    resumed.finalize("success")
    first, second = runs
    assert first.id == second.id == resumed.version
    assert [step for step, _ in logged(runs)] == list(range(10))
    assert [number for run in runs for number, _ in run.rows] == list(range(10))
    assert second.rows[0][1]["epoch"] == 0
    assert (first.exit_code, second.exit_code) == (1, 0)


def test_what_a_kill_took_from_wandb_is_sent_again(runs, tmp_path):
    ended = logger_of(tmp_path)
    log_steps(ended, range(3))
    ended.finalize("success")
    for steps in (range(3, 7), range(5, 9)):  # killed twice: W&B writes what it has when it is finished
        log_steps(logger_of(tmp_path), steps)
    resumed = logger_of(tmp_path)
    log_steps(resumed, range(8, 12))
    resumed.finalize("success")
    first, *killed, last = runs
    assert logged([first, last]) == [(step, 1.0 / (step + 1)) for step in range(12)]
    assert [number for run in (first, last) for number, _ in run.rows] == list(range(12))
    assert (first.part / f"run-{first.id}.wandb").exists()
    for run in killed:
        (left,) = run.part.iterdir()
        assert left.name == f"run-{run.id}.wandb.incomplete"  # which no sync sends
    log_steps(logger_of(tmp_path), range(11, 13))
    assert [step for step, _ in logged(runs[-1:])] == [12]


def test_part_that_was_sent_as_it_was_is_not_sent_again(runs, tmp_path):
    log_steps(logger_of(tmp_path), range(3))
    (runs[0].part / f"run-{runs[0].id}.wandb.synced").touch()
    log_steps(logger_of(tmp_path), range(5))
    assert [step for step, _ in logged(runs[1:])] == [3, 4]


def test_server_says_what_it_lost(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "online")
    log_steps(logger_of(tmp_path), range(6))
    monkeypatch.setattr(FakeRun, "at", 4)  # the last two never arrived
    log_steps(logger_of(tmp_path), range(5, 8))
    assert [number for number, _ in runs[1].rows] == [4, 5, 6, 7]
    assert [step for step, _ in logged(runs[1:])] == [4, 5, 6, 7]


def test_figures_of_a_killed_run_are_sent_again(runs, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "episode.png")
    killed = logger_of(tmp_path)
    log_steps(killed, range(2))
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(RunRecord, "note_end", lambda record, part: None)
        killed.finalize("success")
    for _ in range(2):
        logger = logger_of(tmp_path)
        log_steps(logger, range(2))
        logger.finalize("success")
    assert [sum("figures/episode" in row for _, row in run.rows) for run in runs] == [1, 1, 0]


def test_each_metric_goes_on_from_its_own_step(runs, tmp_path):
    logger = logger_of(tmp_path)
    log_steps(logger, range(5))  # interrupted before the validation after step 4 was logged
    logger.finalize("failed")
    resumed = logger_of(tmp_path)
    log_steps(resumed, range(2, 5))
    resumed.log_metrics({"val/loss": 0.5, "epoch": 0}, step=4)
    assert [step for step, _ in logged(runs)] == list(range(5))
    assert logged(runs, "val/loss") == [(4, 0.5)]


def test_later_part_says_all_of_the_summary(runs, tmp_path):
    fit = logger_of(tmp_path)
    log_steps(fit, range(3))
    fit.finalize("success")
    logger_of(tmp_path).log_metrics({"test/accuracy": 0.75, "epoch": 0}, step=0)
    assert runs[1].summary == {"train/loss": 1.0 / 3, "epoch": 0, "test/accuracy": 0.75}
    assert runs[1].rows == []


def test_training_from_the_beginning_is_a_new_run(runs, tmp_path):
    (tmp_path / "episode.png").write_bytes(b"of the earlier run")
    log_steps(logger_of(tmp_path), range(3))
    anew = logger_of(tmp_path, anew=True)
    log_steps(anew, range(3))
    anew.finalize("success")
    assert runs[0].id != runs[1].id
    assert [step for step, _ in logged(runs)] == [0, 1, 2, 0, 1, 2]
    assert all("figures/episode" not in row for _, row in runs[1].rows)
    assert (tmp_path / "wandb-1.jsonl").exists()
    log_steps(logger_of(tmp_path), range(5))
    assert runs[2].id == runs[1].id
    assert [step for step, _ in logged(runs[2:])] == [3, 4]


def test_journal_survives_a_line_cut_short(tmp_path):
    record = RunRecord(tmp_path, "abc")
    for step in range(3):
        record.note_row({"train/loss": 1.0}, step)
    path = tmp_path / RECORD_FILE
    path.write_bytes(path.read_bytes()[:-10])
    again = RunRecord(tmp_path, "other")
    assert (again.id, again.rows, again.last_step()) == ("abc", 2, 1)
    again.note_row({"train/loss": 1.0}, 5)
    assert RunRecord(tmp_path, "other").last_step() == 5


# what is said of a run ----------------------------------------------------------------------------------------------


def test_group_tags_and_limits(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "7")
    logger = logger_of(tmp_path / "sweep" / "seed-1", group="sweep", tags=["mine"], project="p", notes="n")
    (tmp_path / "sweep" / "seed-1").mkdir(parents=True)
    config = {"model": {"class_path": "a.MAML"}, "data": {"class_path": "b.Omniglot"}, "threads": 2}
    write_yaml(tmp_path / "sweep" / "seed-1" / "config.yaml", config)
    log_steps(logger, [0])
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


def test_online_resumes_by_id_unless_parts_are_unsent(runs, tmp_path, monkeypatch):
    import wandb

    log_steps(logger_of(tmp_path), [0])
    monkeypatch.setenv("WANDB_MODE", "online")
    wandb.teardown()
    log_steps(logger_of(tmp_path), [1])
    assert (runs[1].options["mode"], runs[1].options["resume"]) == ("offline", None)
    for part in tmp_path.glob("wandb/*/*.wandb"):
        part.with_suffix(".wandb.synced").touch()
    log_steps(logger_of(tmp_path), [2])
    assert (runs[2].options["mode"], runs[2].options["resume"]) == ("online", "allow")


def test_only_the_first_rank_logs(runs, tmp_path, monkeypatch):
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = logger_of(tmp_path / "run")
    log_steps(logger, range(3))
    logger.log_hyperparams({"a": 1})
    logger.finalize("success")
    assert runs == []
    assert not (tmp_path / "run").exists()


def test_failure_of_wandb_does_not_end_the_run(runs, tmp_path, monkeypatch):
    logger = logger_of(tmp_path)
    log_steps(logger, range(2))

    def fail(*args, **options):
        raise ConnectionError("the service is gone")

    monkeypatch.setattr(runs[0], "log", fail)
    with pytest.warns(UserWarning, match=r"W&B gets no more of this run \(the service is gone\)"):
        log_steps(logger, range(2, 4))
    log_steps(logger, range(4, 6))
    logger.finalize("success")
    assert len(runs) == 1
