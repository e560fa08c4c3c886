"""A training that is told to stop saves, stops with code 75, and goes on as if nothing had happened."""

import contextlib
import csv
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from commands import changed, maml, write_yaml
from interruptions import interrupted, notes_of
from metalit.main import main
from metalit.runs.checkpoint_files import AtomicCheckpointIO
from metalit.runs.preemption import SIGNALS, STOPPED_EARLY, requeue, slurm_job

ROOT = Path(__file__).parents[2]
STEPS = 6  # of 4 in an epoch
SETTINGS = changed(
    maml(
        lr_scheduler={
            "class_path": "torch.optim.lr_scheduler.StepLR",
            "init_args": {"step_size": 1, "gamma": 0.8},
        }
    ),
    {
        "trainer.max_steps": STEPS,
        "trainer.accelerator": "cpu",
        "trainer.num_sanity_val_steps": 1,
        "data.init_args.val_episodes": 6,
    },
)
ACCUMULATING = {"trainer.accumulate_grad_batches": 2, "data.init_args.episodes_per_epoch": 16}
WITHIN_EPOCH = {"trainer.val_check_interval": 2}


class Run:
    """A run folder, and what is in it."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir()

    def config(self, settings, *callbacks):
        notes = {"class_path": "interruptions.Notes", "init_args": {"file": str(self.folder / "notes")}}
        settings = changed(settings, {"trainer.callbacks": [notes, *callbacks]})
        return write_yaml(self.folder / "settings.yaml", settings)

    def fit(self, settings, *callbacks):
        config = self.config(settings, *callbacks)
        main(["fit", "--config", config, "--run_dir", str(self.folder), "--ckpt_path", "last"])

    def is_stopped(self, settings, *callbacks):
        """Fit until told to stop; return whether that happened."""
        with pytest.raises(SystemExit) as caught:
            self.fit(settings, *callbacks)
        return caught.value.code == STOPPED_EARLY

    def load(self, keyword="last"):
        return torch.load(self.folder / "checkpoints" / f"{keyword}.ckpt", weights_only=True)

    @property
    def notes(self):
        return notes_of(self.folder / "notes")

    @property
    def rows(self):
        """The losses that were logged, by step."""
        texts = [path.read_text().splitlines() for path in self.folder.glob("metrics*.csv")]
        rows = [row for text in texts for row in csv.DictReader(text)]
        return sorted(
            (int(row["step"]), name, row[name]) for row in rows for name in row if row[name] and "loss" in name
        )


def assert_same(one, other):
    """Two runs ended with the same weights, best state, validations, and logged the same."""
    for keyword in ("last", "best"):
        expected, found = one.load(keyword), other.load(keyword)
        assert found["global_step"] == expected["global_step"]
        for name, value in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][name], value), name
    assert other.notes == one.notes
    assert other.rows == one.rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A function that returns the uninterrupted run of some settings, which is run once."""
    runs = {}

    def run(settings):
        key = repr(settings)
        if key not in runs:
            runs[key] = Run(tmp_path_factory.mktemp("whole") / "run")
            runs[key].fit(settings)
        return runs[key]

    return run


@pytest.fixture(autouse=True)
def handlers():
    """What answers signals is the same after as before."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


@pytest.mark.parametrize(
    ("moment", "step", "saved", "changes"),
    [
        ("on_train_batch_end", 2, 2, {}),
        ("on_train_batch_end", 4, 4, {}),  # a validation is next
        ("on_validation_start", 4, 4, {}),
        ("on_validation_batch_end", 4, 4, {}),
        ("on_validation_end", 4, 5, {}),
        ("on_train_batch_end", 6, 6, {}),  # the end, but for a validation
        ("on_validation_batch_end", 6, 6, {}),
        ("on_train_batch_start", 2, 3, ACCUMULATING),  # amidst the batches of step 3, and 5
        ("on_train_batch_start", 4, 5, ACCUMULATING),
        ("on_validation_batch_end", 2, 2, WITHIN_EPOCH),
    ],
)
@pytest.mark.sample(5)
def test_goes_on_as_if_nothing_had_happened(moment, step, saved, changes, whole, tmp_path):
    settings = changed(SETTINGS, changes)
    run = Run(tmp_path / "run")
    assert run.is_stopped(settings, interrupted(moment, step))
    assert run.load()["global_step"] == saved
    run.fit(settings)
    assert_same(whole(settings), run)


def test_stopped_in_the_last_validation_it_may_be_made_longer(whole, tmp_path):
    longer = changed(SETTINGS, {"trainer.max_steps": STEPS + 2})
    run = Run(tmp_path / "run")
    assert run.is_stopped(SETTINGS, interrupted("on_validation_batch_end", STEPS))
    run.fit(longer)
    assert_same(whole(longer), run)


@pytest.mark.parametrize(
    ("moment", "step", "folder"), [("on_sanity_check_start", 0, []), ("on_train_start", 0, ["last.ckpt"])]
)
@pytest.mark.slow
def test_before_the_first_step(moment, step, folder, whole, tmp_path):
    run = Run(tmp_path / "run")
    assert run.is_stopped(SETTINGS, interrupted(moment, step))
    assert [path.name for path in (run.folder / "checkpoints").glob("*")] == folder
    run.fit(SETTINGS)
    assert_same(whole(SETTINGS), run)


def test_more_signals_while_saving(whole, tmp_path, monkeypatch):
    save = AtomicCheckpointIO.save_checkpoint

    def disturbed(self, *args, **options):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
        save(self, *args, **options)

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpointIO, "save_checkpoint", disturbed)
        assert run.is_stopped(SETTINGS, interrupted("on_train_batch_end", 3, signals=["SIGTERM", "SIGUSR2"]))
    run.fit(SETTINGS)
    assert_same(whole(SETTINGS), run)


def test_a_test_is_cut_short(tmp_path, caplog):
    run = Run(tmp_path / "run")
    config = run.config(SETTINGS, interrupted("on_test_batch_end", 0))
    with pytest.raises(SystemExit) as caught:
        main(["test", "--config", config, "--run_dir", str(run.folder)])
    assert caught.value.code == STOPPED_EARLY
    assert not (run.folder / "results.json").exists()
    assert "Stopped by SIGTERM: nothing is saved; the same command starts from the beginning" in caplog.text


def test_without_checkpoints_nothing_is_queued_again(in_slurm, tmp_path, caplog):
    settings = changed(SETTINGS, {"trainer.enable_checkpointing": False})
    assert Run(tmp_path / "run").is_stopped(settings, interrupted("on_train_batch_end", 2, signals=["SIGUSR1"]))
    assert "Stopped by SIGUSR1: nothing is saved; the same command starts from the beginning" in caplog.text
    assert in_slurm() == []


@pytest.fixture
def in_slurm(tmp_path, monkeypatch):
    """This process as the only one of a SLURM job; a function that returns the calls of scontrol."""
    calls, program = tmp_path / "calls", tmp_path / "bin" / "scontrol"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\necho "$@" >>{calls}\n[ "$2" != 13 ] || {{ echo "no such job" >&2; exit 1; }}\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    variables = {
        "NTASKS": 1,
        "NTASKS_PER_NODE": 1,
        "PROCID": 0,
        "LOCALID": 0,
        "NODEID": 0,
        "NNODES": 1,
        "JOB_ID": 7,
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    monkeypatch.setenv("SLURM_JOB_NAME", "train")
    monkeypatch.setenv("METALIT_REQUEUE", "1")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # which Lightning sets otherwise
    return lambda: calls.read_text().splitlines() if calls.exists() else []


@pytest.mark.parametrize(
    ("signals", "wanted", "calls", "says"),
    [
        (["SIGUSR1", "SIGTERM"], "1", ["requeue 7"], "job 7 is queued again"),
        (["SIGUSR2", "SIGUSR1"], "1", [], "to go on, give the same command with --run_dir"),
        (["SIGUSR1"], "0", [], "to go on, give the same command with --run_dir"),
    ],
)
def test_in_slurm_one_party_alone_queues_the_job_again(
    signals, wanted, calls, says, in_slurm, tmp_path, monkeypatch, caplog
):
    monkeypatch.setenv("METALIT_REQUEUE", wanted)
    run = Run(tmp_path / "run")
    assert run.is_stopped(SETTINGS, interrupted("on_train_batch_end", 2, signals=signals))
    assert in_slurm() == calls
    last = run.folder / "checkpoints" / "last.ckpt"
    assert caplog.text.count("Stopped by") == 1
    assert f"Stopped by {signals[0]}: step 2 is saved in {last}; {says}" in caplog.text
    assert list(run.folder.rglob("hpc_ckpt*")) == []  # which Lightning writes, and takes up in whatever job


def test_which_job_is_queued_again(in_slurm, monkeypatch):
    assert slurm_job() == "7"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "5")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    assert slurm_job() == "5_2"
    assert requeue("5_2") == "job 5_2 is queued again"
    assert requeue("13") == "job 13 could not be queued again (no such job): submit it again"
    monkeypatch.setenv("PATH", "")
    assert "No such file or directory: 'scontrol'" in requeue("5_2")
    assert in_slurm() == ["requeue 5_2", "requeue 13"]


def test_outside_the_main_thread_there_are_no_signals(tmp_path):
    run = Run(tmp_path / "run")
    thread = threading.Thread(target=run.fit, args=[SETTINGS])
    thread.start()
    thread.join()
    assert run.load()["global_step"] == STEPS


TWO_RANKS = changed(
    SETTINGS,
    {
        "trainer.devices": 2,
        "trainer.strategy": "ddp",
        "data.init_args.episodes_per_epoch": 16,  # 4 steps
        "data.init_args.num_workers": 1,
        "trainer.log_every_n_steps": 1,
    },
)


def start(run, *callbacks, launcher=()):
    """Start or resume with two ranks in a process group of their own; return the exit code and what was said."""
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    config = run.config(TWO_RANKS, *callbacks)
    process = subprocess.Popen(
        [sys.executable, *launcher, ROOT / "train.py", "fit", "--config", config, "--run_dir", run.folder,
         "--ckpt_path", "last"],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=250)  # until all ranks have ended
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said


@pytest.mark.slow
def test_two_ranks_stop_together(tmp_path):
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    code, said = start(whole)
    assert code == 0, said
    moments = [
        (interrupted("on_train_batch_start", 2, rank=1, target="group"), 3),  # both ranks, and their workers
        (interrupted("on_validation_batch_end", 4), 4),  # the process that the user has started alone
    ]
    for moment, step in moments:
        code, said = start(run, moment)
        assert code == STOPPED_EARLY, said
        assert said.count("Stopped by SIGTERM") == said.count(f"step {step} is saved in") == 1
        assert "Traceback" not in said
    code, said = start(run)
    assert code == 0, said
    assert_same(whole, run)


@pytest.mark.slow
def test_torchrun_is_told_to_stop(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    code, said = start(whole)
    assert code == 0, said
    code, said = start(run, interrupted("on_train_batch_start", 2, target="parent"), launcher=torchrun)
    assert code != 0
    assert run.load()["global_step"] in (3, 4), said  # it takes a moment to pass the signal on
    assert said.count("Stopped by SIGTERM") == 1
    code, said = start(run, launcher=torchrun)
    assert code == 0, said
    assert_same(whole, run)


def test_a_signal_after_the_end_does_not_make_a_finished_run_fail(tmp_path):
    command = ["fit", "--config", str(ROOT / "configs" / "sinusoid" / "maml.yaml"), "--trainer.fast_dev_run", "true"]
    program = f"""
import os, signal, sys
sys.argv = ["train.py", *{command}]
from metalit.main import main
main()
os.kill(os.getpid(), signal.SIGUSR1)
print("alive")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["alive"]), done.stderr
