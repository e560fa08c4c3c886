"""On a real SLURM, a job of two processes that is stopped goes on by itself and ends as if it had not been."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import changed, write_yaml
from interruptions import notes_of
from runs.kill_and_resume import Kind, differences, settings, state

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(900)
STEPS = 40  # of 8 in an epoch
SCRIPT = f"""#!/bin/bash
#SBATCH --job-name=preemption --nodes=1 --ntasks-per-node=2 --requeue --open-mode=append
export METALIT_REQUEUE=1 OMP_NUM_THREADS=1 PYTHONUNBUFFERED=1
export PYTHONPATH={ROOT / "src"}:{ROOT / "tests"}:{ROOT / "tests" / "runs"}
srun {sys.executable} {ROOT / "train.py"} fit --config "$1/settings.yaml" --run_dir "$1" --ckpt_path last
"""


class Job:
    """A training on two processes.

    Args:
        folder: its run folder.
        slow: seconds by which each step of the second process is slower than those of the first.
        options: of sbatch.
    """

    def __init__(self, folder, slow=0.0, *options):
        self.folder = folder
        folder.mkdir()
        callbacks = [
            {"class_path": "interruptions.Notes", "init_args": {"file": str(folder / "notes")}},
            {"class_path": "interruptions.Slow", "init_args": {"seconds": slow}},
        ]
        changes = {
            "trainer.callbacks": callbacks,
            "trainer.devices": 2,
            "trainer.strategy": "ddp",
            "data.init_args.episodes_per_epoch": 32,
            "data.init_args.val_episodes": 15,
            "data.init_args.eval_tasks_per_batch": 5,
        }
        write_yaml(folder / "settings.yaml", changed(settings(Kind(), STEPS, 1000), changes))
        (folder / "job.sh").write_text(SCRIPT)
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={folder}/log", *options, folder / "job.sh", folder],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        self.id = done.stdout.strip()

    @property
    def log(self):
        path = self.folder / "log"
        return path.read_text() if path.exists() else ""

    @property
    def about(self):
        """What SLURM says of it."""
        text = subprocess.run(["scontrol", "show", "job", self.id], capture_output=True, text=True, check=True).stdout
        return dict(re.findall(r"(\S+?)=(\S*)", text))

    @property
    def steps(self):
        """The steps that each process has made."""
        if not all((self.folder / f"notes-{rank}").exists() for rank in range(2)):
            return [[], []]
        notes = [notes_of(self.folder / "notes", rank) for rank in range(2)]
        return [[step for kind, step, *_ in lines if kind == "step"] for lines in notes]

    def wait(self, condition, seconds=600):
        end = time.monotonic() + seconds
        while not condition(self):
            assert self.about["JobState"] not in ("FAILED", "TIMEOUT", "CANCELLED"), self.log
            assert time.monotonic() < end, f"{self.about['JobState']} {self.steps}\n{self.log}"
            time.sleep(0.2)

    def wait_until_stepped(self, step):
        self.wait(lambda job: all(step in steps for steps in job.steps))

    def wait_until_done(self):
        self.wait(lambda job: job.about["JobState"] == "COMPLETED")


@pytest.fixture
def submit(slurm, tmp_path):
    """A function that submits a job, which has ended when the test ends."""
    jobs = []

    def submit_job(name, *args):
        jobs.append(Job(tmp_path / name, *args))
        return jobs[-1]

    yield submit_job
    subprocess.run(["scancel", "--signal=KILL", "--full", *(job.id for job in jobs)], check=False, capture_output=True)
    subprocess.run(["scancel", *(job.id for job in jobs)], check=False, capture_output=True)


def assert_went_on(job, whole, starts):
    """It was started so often, and did what the job did that nobody stopped."""
    assert int(job.about["Restarts"]) == starts - 1, job.log
    assert job.log.count("Stopped by") == job.log.count("Restored all states") == starts - 1, job.log
    assert "Traceback" not in job.log
    assert job.steps == whole.steps == [list(range(1, STEPS + 1))] * 2
    assert notes_of(job.folder / "notes") == notes_of(whole.folder / "notes")
    assert differences(state(whole.folder), state(job.folder)) == []
    assert list(job.folder.rglob("hpc_ckpt*")) == []


@pytest.mark.slow
def test_told_to_stop_it_is_queued_again_once(submit):
    job = submit("job", 0.3)
    whole = submit("whole")
    job.wait_until_stepped(10)
    subprocess.run(["scancel", "--signal=USR1", job.id], check=True)
    whole.wait_until_done()
    job.wait_until_done()
    assert job.log.count("is queued again") == 1
    assert_went_on(job, whole, 2)


@pytest.mark.slow
@pytest.mark.parametrize("slow", [0.05, 0.5])
def test_preempted_it_goes_on(slow, submit):
    job, whole = submit("job", slow), submit("whole")
    for step in (3, 21):
        job.wait_until_stepped(step)
        subprocess.run(["scontrol", "requeue", job.id], check=True)
    whole.wait_until_done()
    job.wait_until_done()
    assert "is queued again" not in job.log  # by us
    assert_went_on(job, whole, 3)


@pytest.mark.slow
def test_at_its_time_limit_it_is_queued_again_once(submit):
    whole = submit("whole")
    whole.wait_until_done()
    job = submit("job", 2.5, "--time=2", "--signal=USR1@50")  # SLURM rounds times to the minute
    job.wait_until_done()
    starts = int(job.about["Restarts"]) + 1
    assert starts > 1
    assert job.log.count("is queued again") == starts - 1
    assert_went_on(job, whole, starts)
