"""Submitting to a real SLURM."""

import json
import re
import subprocess
import time

import pytest

from commands import changed, complaint, protonet, write_yaml
from metalit.cluster.base import exit_code, read_job
from metalit.commands.manage import cancel, has_ended, states
from metalit.commands.sweeps import Point
from metalit.main import main

pytestmark = pytest.mark.slow  # a job takes seconds to start

SMALL = ["--cluster", "Slurm", "--cluster.memory", "500M", "--cluster.time", "10"]
# stands in for Python: what the test writes is run with the arguments of a run
FAKE = r"""
while [ $# -gt 0 ]; do [ "$1" = --run_dir ] && run=$2; shift; done
echo start >>"$run/starts"
echo "start $(wc -l <"$run/starts") of ${SLURM_ARRAY_TASK_ID:-the only one}"
"""
FOR_EVER = 'trap "echo saved; exit 75" TERM; while true; do sleep 0.1; done'


@pytest.fixture
def here(slurm, tmp_path, monkeypatch):
    """A working directory with one experiment; jobs that have not ended in the end are cancelled."""
    monkeypatch.chdir(tmp_path)
    write_yaml(tmp_path / "c.yaml", changed(protonet(), {"trainer.accelerator": "cpu"}))
    yield tmp_path
    for record in tmp_path.glob("*/job.json"):
        cancel([str(record.parent)])


@pytest.fixture
def submit(here):
    """A function that submits a training that does what a piece of shell does, into the folder ``run``."""

    def submit_fake(does, *own):
        (here / "fake.sh").write_text(FAKE + does)
        python = ["--cluster.python", f"bash {here}/fake.sh"]
        main(["submit", *SMALL, *python, *own, "fit", "--config", "c.yaml", "--run_dir", "run"])
        return read_job(here / "run")

    return submit_fake


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.2)


def words(job):
    return [state.word for state in states(job)]


def log(job, number=0):
    path = job.tasks[number].log
    return path.read_text() if path.exists() else ""


def test_two_processes_and_a_test(here, capsys):
    two = ["--cluster.devices", "2", "--cluster.memory", "3G", "--test"]
    main(["submit", *SMALL, *two, "fit", "--config", "c.yaml", "--run_dir", "my run"])
    job = read_job(here / "my run")
    assert f"Submitted job {job.id} (Slurm)" in capsys.readouterr().out
    wait_for(lambda: has_ended(job), 250)
    assert words(job) == ["COMPLETED"], log(job)
    assert "MEMBER: 2/2" in log(job)
    results = json.loads((here / "my run" / "results.json").read_text())
    assert results["checkpoint"].endswith("best.ckpt")
    main(["status", "my run"])
    # srun carries the two streams of output apart, so either's last line may be the log's
    last = "(Results are in|Figure: )"
    assert re.search(rf"\nmy run +{job.id} +COMPLETED +0 +{last}", capsys.readouterr().out)


def test_array_of_four_seeds(submit, here, capsys, monkeypatch):
    points = [Point(f"seed{seed}", ("--data.seed", str(seed))) for seed in range(4)]
    monkeypatch.setattr("metalit.commands.sweeps.read_sweep", lambda _: points)
    job = submit('grep "^    seed:" "$run/job.yaml"; echo "group $WANDB_RUN_GROUP"', "--sweep", "seeds.yaml")
    assert f"Submitted job {job.id} (Slurm, 4 runs)" in capsys.readouterr().out
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"] * 4
    for seed in range(4):
        assert log(job, seed).split("\n") == [f"start 1 of {seed}", f"    seed: {seed}", "group run", ""]
    main(["status", "run"])
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines()[1:]]
    assert rows == [[f"seed{seed}", f"{job.id}_{seed}", "COMPLETED", "0"] for seed in range(4)]
    main(["logs", "run/seed2"])
    assert capsys.readouterr().out == log(job, 2)


def test_one_run_of_an_array_is_cancelled(submit, here, monkeypatch):
    monkeypatch.setattr("metalit.commands.sweeps.read_sweep", lambda _: [Point("a", ()), Point("b", ())])
    job = submit(FOR_EVER, "--sweep", "two.yaml", "--cluster.max_parallel", "1")
    wait_for(lambda: "start 1" in log(job))
    assert words(job) == ["RUNNING", "PENDING"]  # one at a time
    main(["cancel", "run/a"])
    wait_for(lambda: "start 1" in log(job, 1))
    assert words(job) == ["CANCELLED", "RUNNING"]
    assert "saved" in log(job)


def test_queued_again_it_goes_on_in_the_same_log(submit, here):
    job = submit(f'[ $(wc -l <"$run/starts") = 2 ] && exit 0; {FOR_EVER}')
    wait_for(lambda: "start 1" in log(job))
    subprocess.run(["scontrol", "requeue", job.id], check=True)
    wait_for(lambda: "saved" in log(job))
    assert not has_ended(job)
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"]
    assert re.search(r"start 1 of.*saved.*start 2 of", log(job), re.DOTALL)


def test_second_job_of_a_folder_is_refused(submit, here, capsys):
    job = submit(FOR_EVER)
    for _ in range(2):  # waiting or running
        said = complaint(capsys, lambda: submit(FOR_EVER))
        assert re.match(rf"run_dir: .*/run has a job that has not ended, {job.id} \((PENDING|RUNNING)\)", said)
        wait_for(lambda: "start 1" in log(job))
    main(["cancel", "run"])
    wait_for(lambda: has_ended(job))
    assert words(job) == ["CANCELLED"]
    again = submit("exit 0")
    wait_for(lambda: has_ended(again))
    assert again.id != job.id
    assert words(again) == ["COMPLETED"]


def test_failed_job(submit):
    job = submit("exit 3", "--test")
    wait_for(lambda: has_ended(job))
    assert words(job) == ["FAILED"]
    assert exit_code(job.tasks[0].folder) == 3


def test_dead_process_ends_the_others(submit):
    job = submit('[ "$SLURM_PROCID" = 0 ] || kill -9 $$; sleep 300', "--cluster.devices", "2")
    wait_for(lambda: has_ended(job), 60)
    assert words(job) == ["FAILED"]


def test_what_slurm_refuses_is_one_line(submit, here, capsys):
    said = complaint(capsys, lambda: submit("exit 0", "--cluster.partition", "none"))
    assert said.startswith("sbatch refuses the job: ")
    assert "partition" in said
    assert not (here / "run").exists()


def test_a_run_that_starts_ignores_the_signal_before_the_time_limit(submit):
    job = submit('kill -USR1 $$; echo "still here"')
    wait_for(lambda: has_ended(job))
    assert words(job) == ["COMPLETED"], log(job)
    assert "still here" in log(job)
