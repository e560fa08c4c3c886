"""The local cluster, with real processes: submit, status, logs, cancel, started again, sweeps."""

import json
import os
import re
import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from commands import changed, complaint, protonet, write_yaml
from metalit.cli.lost_ranks import LOST_RANK
from metalit.cluster import local
from metalit.cluster.base import Job, Task, exit_code, read_job
from metalit.commands.manage import error_line, has_ended, last_lines, states
from metalit.commands.sweeps import Point
from metalit.main import main

# stands in for Python: what the test writes is run with the arguments of a run
FAKE = r"""
while [ $# -gt 0 ]; do [ "$1" = --run_dir ] && run=$2; shift; done
echo "start $(( $(cat "$run/starts" 2>/dev/null || echo 0) + 1 ))"
echo $(( $(cat "$run/starts" 2>/dev/null || echo 0) + 1 )) >"$run/starts"
"""
SWEEP = ("--sweep", "sweep.yaml", "--cluster.parallel")


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory with one experiment; whatever still runs in the end is ended."""
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "c.yaml", changed(protonet(), {"trainer.accelerator": "cpu"}))
    yield tmp_path
    for record in tmp_path.rglob("job.json"):
        job = read_job(record.parent)
        if "_" not in job.id and local.is_alive(job):
            os.killpg(int(job.id), signal.SIGKILL)


@pytest.fixture
def submit(here):
    """A function that submits a training that does what a piece of shell does, into the folder ``run``."""

    def submit_fake(does, *own, run=("--run_dir", "run")):
        (here / "fake.sh").write_text(FAKE + does)
        cluster = ["--cluster", "Local", "--cluster.python", f"bash {here}/fake.sh"]
        main(["submit", *cluster, *own, "fit", "--config", "c.yaml", *run])
        return read_job(here / "run")

    return submit_fake


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


def words(job):
    return [state.word for state in states(job)]


@pytest.mark.slow
def test_a_real_run(here, capsys):
    main(["submit", "--cluster", "Local", "--test", "fit", "--config", "c.yaml", "--run_dir", "my run"])
    job = read_job(here / "my run")
    main(["logs", "my run", "--follow"])  # until it ends
    said = capsys.readouterr().out
    assert words(job) == ["COMPLETED"], said
    assert f"Submitted job {job.id} (Local)" in said
    assert "Results are in" in said
    results = json.loads((here / "my run" / "results.json").read_text())
    assert results["checkpoint"].endswith("best.ckpt")
    main(["status", "my run"])
    row = capsys.readouterr().out.splitlines()[1]
    assert re.match(rf"my run +{job.id} +COMPLETED +0 +Results are in", row)


def test_stopped_early_it_is_started_again(submit):
    job = submit('[ $(cat "$run/starts") -ge 3 ] || exit 75')
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"]
    assert job.tasks[0].log.read_text().splitlines() == ["start 1", "start 2", "start 3"]


def test_a_cluster_of_the_users_own(submit, here, capsys, monkeypatch):
    (here / "ours.py").write_text("from metalit.cluster import Local\n\n\nclass OurMachine(Local):\n    pass\n")
    monkeypatch.syspath_prepend(here)
    (here / "fake.sh").write_text(FAKE + "exit 0")
    command = ["submit", "--cluster", "ours.OurMachine", "--cluster.python", f"bash {here}/fake.sh", "fit"]
    command += ["--config", "c.yaml", "--run_dir", "run"]
    main(command)
    job = read_job(here / "run")
    assert job.cluster == "ours.OurMachine"
    assert f"Submitted job {job.id} (OurMachine)" in capsys.readouterr().out
    wait_for(lambda: has_ended(job))
    for word in ("status", "logs", "cancel"):
        main([word, "run"])
    assert "had ended already" in capsys.readouterr().out
    main(command)  # a second time, into the same folder
    again = read_job(here / "run")
    wait_for(lambda: has_ended(again))
    assert again.id != job.id
    monkeypatch.delitem(sys.modules, "ours")
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(here)])
    said = complaint(capsys, lambda: main(["status", "run"]))
    assert f"job {again.id} was submitted to a ours.OurMachine, which cannot be imported here" in said


def test_failed_it_is_not(submit, here, capsys):
    job = submit("exit 3", "--test")
    wait_for(lambda: has_ended(job))
    assert words(job) == ["FAILED"]
    assert job.tasks[0].log.read_text() == "start 1\n"  # and there was no test
    main(["status", "run"])
    assert re.search(rf"\nrun +{job.id} +FAILED +3 +start 1\n", capsys.readouterr().out)


def test_cancel_lets_it_save(submit, here, capsys):
    job = submit('trap "echo saved; exit 75" TERM; touch "$run/ready"; while true; do sleep 0.05; done')
    wait_for((here / "run" / "ready").exists)
    main(["status", "run"])
    assert re.search(r"RUNNING +start 1\n", capsys.readouterr().out)
    said = complaint(capsys, lambda: submit("exit 0"))
    assert f"has a job that has not ended, {job.id} (RUNNING)" in said
    main(["cancel", "run"])
    assert words(job) == ["CANCELLED"]
    said = job.tasks[0].log.read_text().splitlines()
    assert "saved" in said
    assert "start 2" not in said
    again = submit("exit 0")
    wait_for(lambda: has_ended(again))
    assert words(again) == ["COMPLETED"]
    assert words(read_job(here / "run")) == ["COMPLETED"]


def test_cancel_kills_what_does_not_end(submit, here, monkeypatch):
    monkeypatch.setattr(local, "PATIENCE", 0.3)
    job = submit('trap "" TERM; touch "$run/ready"; while true; do sleep 0.05; done')
    wait_for((here / "run" / "ready").exists)
    main(["cancel", "run"])
    assert words(job) == ["CANCELLED"]


def test_killed_from_outside(submit, here):
    job = submit('touch "$run/ready"; sleep 100')
    wait_for((here / "run" / "ready").exists)
    os.killpg(int(job.id), signal.SIGKILL)
    wait_for(lambda: has_ended(job))
    assert words(job) == ["CANCELLED"]  # there is no exit code: it did not fail by itself


def test_supervisor_alone_killed_is_not_the_end(submit, here):
    job = submit('touch "$run/ready"; while [ ! -e "$run/go" ]; do sleep 0.02; done')
    wait_for((here / "run" / "ready").exists)
    os.kill(int(job.id), signal.SIGKILL)
    assert words(job) == ["RUNNING"]
    (here / "run" / "go").touch()
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"]


def test_job_of_another_machine(submit, here, capsys, monkeypatch):
    job = submit("exit 0")
    wait_for(lambda: has_ended(job))
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    said = complaint(capsys, lambda: main(["status", "run"]))
    assert said.startswith(f"job {job.id} runs on the machine ")
    monkeypatch.undo()


def test_moved_folder(tmp_path):
    """A record names the places that the files have now, in the folder of a sweep and in that of one run."""
    old, new = tmp_path / "old", tmp_path / "new"
    tasks = [
        Task(name, old / name, f"7_{n}", old / "logs" / f"7_{n}.log") for n, name in enumerate(("seed=0", "seed=1"))
    ]
    job = Job("metalit.cluster.Local", "7", old, tasks, {"host": socket.gethostname()})
    for folder, record in ((old, job), (old / "seed=1", job._replace(id="7_1", tasks=tasks[1:]))):
        folder.mkdir(exist_ok=True)
        record.write(folder)
    old.rename(new)
    for folder, moved in ((new, read_job(new)), (new / "seed=1", read_job(new / "seed=1"))):
        assert moved.folder == new, folder
        assert [task.folder for task in moved.tasks] == [new / task.name for task in moved.tasks]
        assert [task.log for task in moved.tasks] == [new / "logs" / f"{task.id}.log" for task in moved.tasks]


def test_failed_setup_is_the_end(submit):
    job = submit("exit 0", "--cluster.setup", "['echo loading', 'false']")
    wait_for(lambda: has_ended(job))
    assert words(job) == ["FAILED"]
    assert job.tasks[0].log.read_text() == "loading\n"


def test_no_log_yet(submit, here, capsys):
    job = submit("exit 0")
    wait_for(lambda: has_ended(job))
    job.tasks[0].log.unlink()
    capsys.readouterr()
    main(["logs", "run"])
    assert capsys.readouterr().out == f"There is no log yet: job {job.id} is COMPLETED\n"


def test_sweep(submit, here, capsys, monkeypatch):
    points = [Point(f"seed{seed}", ("--data.seed", str(seed))) for seed in range(3)]
    monkeypatch.setattr("metalit.commands.sweeps.read_sweep", lambda _: points)
    job = submit('grep "^    seed:" "$run/job.yaml"; echo "group $WANDB_RUN_GROUP"; exit 1', *SWEEP, "2")
    assert f"Submitted job {job.id} (Local, 3 runs)" in capsys.readouterr().out
    wait_for(lambda: has_ended(job))
    assert [exit_code(task.folder) for task in job.tasks] == [1, 1, 1]
    for seed, task in enumerate(job.tasks):
        assert task.folder == here / "run" / f"seed{seed}"
        assert task.log.read_text().splitlines() == ["start 1", f"    seed: {seed}", "group run"]
    main(["status", "run"])
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [[f"seed{seed}", f"{job.id}_{seed}", "FAILED", "1"] for seed in range(3)]
    main(["logs", "run"])
    assert [line for line in capsys.readouterr().out.splitlines() if "==>" in line] == [
        f"==> seed{seed} <==" for seed in range(3)
    ]


def test_as_many_runs_as_parallel_says(submit, here, capsys, monkeypatch):
    points = [Point(name, ()) for name in ("a", "b", "c")]
    monkeypatch.setattr("metalit.commands.sweeps.read_sweep", lambda _: points)
    job = submit('while [ ! -e "$run/go" ]; do sleep 0.02; done', *SWEEP, "2")
    wait_for(lambda: (here / "run" / "a" / "starts").exists() and (here / "run" / "b" / "starts").exists())
    assert words(job) == ["RUNNING", "RUNNING", "PENDING"]
    said = complaint(capsys, lambda: main(["cancel", "run/a"]))
    assert "is one run of a sweep, which here is cancelled as a whole" in said
    (here / "run" / "a" / "go").touch()
    wait_for((here / "run" / "c" / "starts").exists)
    assert words(job) == ["COMPLETED", "RUNNING", "RUNNING"]
    assert words(read_job(here / "run" / "a")) == ["COMPLETED"]
    main(["cancel", "run"])
    assert words(job) == ["COMPLETED", "CANCELLED", "CANCELLED"]


def test_mistake_in_one_point_of_a_sweep(submit, here, capsys, monkeypatch):
    points = [Point("good", ()), Point("bad", ("--data.ways", "many"))]
    monkeypatch.setattr("metalit.commands.sweeps.read_sweep", lambda _: points)
    said = complaint(capsys, lambda: submit("exit 0", *SWEEP, "2"))
    assert said == "data.ways: found many, expected a whole number"
    assert not (here / "run").exists()


@pytest.mark.slow
def test_later_edits_do_not_change_the_job(here):
    (here / "mine.py").write_text("from metalit.data import Glyphs\nclass Mine(Glyphs):\n    'Before.'\n")
    config = changed(protonet(), {"data.class_path": "mine.Mine", "trainer.accelerator": "cpu"})
    path = write_yaml(here / "mine.yaml", config)
    setup = "while [ ! -e go ]; do sleep 0.02; done"
    # the class is found here as it is found by python train.py: beside the program
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(here)
        main(
            [
                "submit",
                "--cluster",
                "Local",
                "--cluster.setup",
                f"['{setup}']",
                "fit",
                "--config",
                path,
                "--run_dir",
                "run",
            ]
        )
    job = read_job(here / "run")
    Path("mine.py").write_text("raise RuntimeError('edited')")
    Path(path).unlink()
    Path("go").touch()
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"], job.tasks[0].log.read_text()


@pytest.mark.parametrize(
    ("said", "line"),
    [
        ("error: data.ways is 6\nsrun: error: localhost: task 1: Exited with exit code 2", "error: data.ways is 6"),
        (
            f"error: data.ways is 6\n{LOST_RANK}\nslurmstepd: error: *** STEP 1.0 ON localhost CANCELLED",
            "error: data.ways is 6",
        ),
        ("Traceback (most recent call last):\n  File x\nRuntimeError: my bug\nsrun: error: x", "RuntimeError: my bug"),
        ("[rank1]: Traceback:\n[rank1]: torch.OutOfMemoryError: x\nEpoch 3", "[rank1]: torch.OutOfMemoryError: x"),
        ("start 1\nsrun: error: localhost: task 0: Exited", ""),
    ],
)  # fmt: skip
def test_error_of_a_failed_job(said, line, tmp_path):
    (tmp_path / "log").write_text(f"{said}\n")
    lines = last_lines(tmp_path / "log")
    assert error_line(lines) == line
    assert not lines[-1].startswith(("srun", "slurmstepd", LOST_RANK))


def test_status_of_a_failed_job_shows_its_error(submit, capsys):
    job = submit('echo "error: data.ways is 6"; echo "srun: error: localhost: task 0: Exited"; exit 2')
    wait_for(lambda: has_ended(job))
    main(["status", "run"])
    assert re.search(rf"\nrun +{job.id} +FAILED +2 +error: data.ways is 6\n", capsys.readouterr().out)
