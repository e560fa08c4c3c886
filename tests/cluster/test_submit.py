"""Submitting: the script that a command leads to, what is refused, and what SLURM is asked and told."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from commands import changed, complaint, protonet, write_yaml
from metalit.cluster.base import Task, read_job
from metalit.cluster.slurm import ENDED, seconds
from metalit.main import main

ROOT = Path(__file__).parents[2]
CLUSTERS = sorted((ROOT / "configs" / "cluster").glob("*.yaml"))
FAKES = {
    "sbatch": 'cat "$2" >"$0.got"; echo "17;here"',
    "squeue": 'cat "$0.says"',
    "sacct": 'cat "$0.says" || exit 1',
    "scancel": 'echo "$@" >"$0.got"',
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working directory, with one experiment in it."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    write_yaml(folder / "c.yaml", protonet())
    return folder


@pytest.fixture
def slurm_says(tmp_path, monkeypatch):
    """A SLURM that says what it is told to; a function to tell it, and to ask what it got."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, script in FAKES.items():
        (programs / name).write_text(f"#!/bin/bash\n{script}\n")
        (programs / name).chmod(0o755)
        (programs / f"{name}.says").write_text("")
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")

    def say(**answers):
        for name, answer in answers.items():
            (programs / f"{name}.says").write_text(answer)
        return lambda name: (programs / f"{name}.got").read_text()

    return say


def submit(*args, cluster="slurm.yaml"):
    main(["submit", "--cluster", str(ROOT / "configs" / "cluster" / cluster), *args])


def script_of(capsys, *args, cluster="slurm.yaml"):
    submit("--dry-run", *args, cluster=cluster)
    return capsys.readouterr().out


def options_of(script):
    """Return what sbatch is given, by name."""
    lines = [shlex.split(line)[1] for line in script.splitlines() if line.startswith("#SBATCH ")]
    return {option[2:].partition("=")[0]: option.partition("=")[2] for option in lines}


def calls_of(script):
    """Return the commands that run something, as words, without the shell that has them ignore a signal."""
    calls = [shlex.split(line) for line in script.splitlines() if " --run_dir " in line]
    return [[*call[:1], *call[4:]] if call[1:3] == ["bash", "-c"] else call for call in calls]


# the script


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_dry_run_of_every_cluster(path, here, capsys):
    script = script_of(capsys, "fit", "--config", "c.yaml", cluster=path.name)
    assert subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode == 0
    assert [path.name for path in here.iterdir()] == ["c.yaml"]
    (call,) = calls_of(script)
    assert "fit --config $run/job.yaml --run_dir $run --ckpt_path last" in " ".join(call)
    is_slurm = yaml.safe_load(path.read_text())["class_path"].endswith("Slurm")
    assert (call[0] == "srun") == bool(options_of(script)) == is_slurm


@pytest.mark.parametrize("path", CLUSTERS, ids=lambda path: path.stem)
def test_cluster_file_begins_with_a_command_that_is_right(path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    head = path.read_text().partition("\n")[0]
    words = shlex.split(head.removeprefix("# python train.py "))
    assert f"configs/cluster/{path.name}" in words
    main([words[0], "--dry_run", "true", *words[1:]])
    assert "Nothing was written" in capsys.readouterr().out


def test_what_slurm_is_asked_for(here, capsys):
    names = {"partition": "long", "account": "me", "qos": "low", "constraint": "a100", "memory": "9G"}
    own = [word for name, value in names.items() for word in (f"--cluster.{name}", value)]
    size = ["--cluster.nodes=2", "--cluster.devices=4", "--cluster.gpus=true", "--cluster.cpus_per_task=3"]
    more = ["--cluster.time", "1-12:00:00", "--cluster.grace=77", "--cluster.extra=['--exclusive']"]
    script = script_of(capsys, *own, *size, *more, "fit", "--config", "c.yaml", "--run_dir", "my run")
    assert options_of(script) == {
        "job-name": "my run.metalit",
        "output": f"{here}/my run/logs/%j.log",
        "open-mode": "append",
        "partition": "long",
        "account": "me",
        "qos": "low",
        "nodes": "2",
        "ntasks-per-node": "4",
        "gpus-per-node": "4",
        "cpus-per-task": "3",
        "mem": "9G",
        "time": "1-12:00:00",
        "constraint": "a100",
        "signal": "USR1@77",
        "requeue": "",
        "exclusive": "",
    }
    assert "export METALIT_REQUEUE=1" in script


def test_without_requeue(here, capsys):
    script = script_of(capsys, "--cluster.requeue", "false", "fit", "--config", "c.yaml")
    assert "no-requeue" in options_of(script)
    assert "METALIT_REQUEUE" not in script


def test_environment_comes_before_the_run(here, capsys):
    setup = [
        "--cluster.setup",
        "['module load x', 'source e']",
        "--cluster.python",
        "apptainer exec m.sif python",
    ]
    script = script_of(capsys, *setup, "fit", "--config", "c.yaml")
    assert re.search(
        rf"cd {here}\nmodule load x\nsource e\n.*\nsrun bash -c .* apptainer exec m.sif python -m",
        script,
        re.DOTALL,
    )


@pytest.mark.slow
def test_sweep_is_an_array(here, capsys):
    sweep = write_yaml(here / "two_lr.yaml", {"grid": {"model.optimizer.init_args.lr": [0.1, 0.2]}, "seeds": 2})
    script = script_of(capsys, "--sweep", sweep, "--cluster.max_parallel", "3", "--test", "fit", "--config", "c.yaml")
    options = options_of(script)
    assert options["array"] == "0-3%3"
    assert re.fullmatch(rf"{here}/runs/two_lr-[\d_-]+/logs/%A_%a\.log", options["output"])
    folder = re.search(r"^job=(.*)$", script, re.MULTILINE)[1]
    assert f"export WANDB_RUN_GROUP={Path(folder).name}\n" in script
    finds = script[script.index("job=") : script.index("\nset -e")]
    found = [
        subprocess.run(
            ["bash", "-c", f"SLURM_ARRAY_TASK_ID={number}\n{finds}\necho $run"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for number in range(4)
    ]
    assert found == [f"{folder}/lr={lr},seed_everything={seed}" for lr in (0.1, 0.2) for seed in (0, 1)]
    assert len(calls_of(script)) == 2
    named = script_of(capsys, "--sweep", sweep, "fit", "--config", "c.yaml", "--run_dir", "mine")
    assert f"\njob={here}/mine\n" in named


def test_training_is_followed_by_its_test(here, capsys):
    script = script_of(capsys, "--test", "fit", "--config", "c.yaml")
    first, second = calls_of(script)
    assert first[first.index("fit") :][-2:] == ["--ckpt_path", "last"]
    assert second[second.index("test") :] == [
        "test",
        "--config",
        "$run/job.yaml",
        "--run_dir",
        "$run",
        "--ckpt_path",
        "best",
    ]
    assert "\nset -e" in script  # a training that failed, or was stopped, has no test


def test_other_commands_have_their_own_checkpoint(here, capsys):
    (call,) = calls_of(script_of(capsys, "predict", "--config", "c.yaml"))
    assert "--ckpt_path" not in call
    (here / "a.ckpt").touch()
    (call,) = calls_of(script_of(capsys, "test", "--config", "c.yaml", "--ckpt_path", "a.ckpt"))
    assert call[-2:] == ["--ckpt_path", "a.ckpt"]


def test_training_from_a_file_goes_on_with_its_own_checkpoint(here, capsys):
    (here / "a.ckpt").touch()
    script = script_of(capsys, "fit", "--config", "c.yaml", "--ckpt_path", "a.ckpt", "--run_dir", "r")
    choice = script[script.index("from=last") : script.index("\nsrun")]
    for expected in ("a.ckpt", "last"):
        chosen = subprocess.run(
            ["bash", "-ec", f"run={here}/r\n{choice}\necho $from"], capture_output=True, text=True, check=True
        )
        assert chosen.stdout.strip() == expected
        (here / "r" / "checkpoints").mkdir(parents=True, exist_ok=True)
        (here / "r" / "checkpoints" / "last.ckpt").touch()


# what is refused


def write_cluster(here, **settings):
    return write_yaml(here / "cluster.yaml", {"class_path": "metalit.cluster.Slurm", "init_args": settings})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"partitionn": "x"},
            r"cluster\.partitionn: Slurm has no such option; did you mean cluster\.partition\?",
        ),
        ({"nodes": "two"}, r"cluster\.nodes: found two, expected a whole number"),
        ({"nodes": 0}, r"cluster\.nodes is 0, expected at least 1"),
        ({"time": 43200}, r"cluster\.time is 43200, expected a time in quotes"),
    ],
)
def test_mistake_in_the_cluster_file(settings, message, here, capsys):
    path = write_cluster(here, **settings)
    said = complaint(capsys, lambda: main(["submit", "--cluster", path, "fit", "--config", "c.yaml"]))
    assert re.match(message, said)


def test_unquoted_time_is_the_number_of_the_message(here):
    assert yaml.safe_load("12:00:00") == 43200


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fit", "--config", "c.yaml"], "cluster: not given; use --cluster FILE"),
        (["--cluster", "none.yaml", "fit"], "cluster: there is no file none.yaml"),
        (["--cluster", "Slurm"], "command: not given; expected fit, validate, test or predict"),
        (
            ["--cluster", "Slurm", "--swep", "x", "fit"],
            "swep: submit has no such option; did you mean sweep?",
        ),
        (
            ["--cluster", "Slurm", "--test", "predict", "--config", "c.yaml"],
            "test: is true, but the command is predict",
        ),
        (
            ["--cluster", "Slurm", "fit", "--config", "c.yaml", "--data.wys", "3"],
            "data.wys: Glyphs has no such option",
        ),
        (["--cluster", "Slurm", "fit", "--config", "c.yaml", "--data.ways", "-3"], "data.ways is -3"),
        (
            ["--cluster", "Slurm", "fit", "--config", "c.yaml", "--trainer.devices", "2"],
            "trainer.devices is 2, expected 1, which is cluster.devices",
        ),
        (
            ["--cluster", "Slurm", "fit", "--config", "c.yaml", "--trainer.accelerator", "gpu"],
            "trainer.accelerator is gpu, expected cpu",
        ),
    ],
)
def test_mistake_in_the_command(args, message, here, capsys):
    assert complaint(capsys, lambda: main(["submit", *args])).startswith(message)
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


def test_without_sbatch(here, capsys, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    said = complaint(capsys, lambda: submit("fit", "--config", "c.yaml"))
    assert said.startswith("there is no sbatch on this machine: submit from a login node")
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


def test_job_that_slurm_refuses_leaves_nothing(here, capsys, slurm_says, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/bash\necho 'invalid partition' >&2; exit 1\n")
    said = complaint(capsys, lambda: submit("fit", "--config", "c.yaml", "--run_dir", "r"))
    assert said == "sbatch refuses the job: invalid partition"
    assert not (here / "r").exists()


def test_new_training_in_the_folder_of_an_old_one(here, capsys):
    (here / "r" / "checkpoints").mkdir(parents=True)
    torch.save({}, here / "r" / "checkpoints" / "last.ckpt")
    args = ["fit", "--config", "c.yaml", "--run_dir", "r"]
    said = complaint(capsys, lambda: submit("--dry-run", *args))
    assert "has the checkpoint of an earlier training; give --ckpt_path last" in said
    submit("--dry-run", *args, "--ckpt_path", "last")
    submit("--dry-run", *args, "--ckpt_path", "r/checkpoints/last.ckpt")


def test_nothing_was_submitted_there(here, capsys):
    for command in ("status", "logs", "cancel"):
        said = complaint(capsys, lambda command=command: main([command, str(here)]))
        assert said == f"{here} has no job (job.json is missing); name the run folder that submit printed"
        assert complaint(capsys, lambda command=command: main([command])).startswith("folder: not given")
    (here / "job.json").write_text("{")
    assert "is damaged" in complaint(capsys, lambda: main(["status", str(here)]))


# what SLURM is told, and what it answers


def test_submitted_job(here, capsys, slurm_says):
    got = slurm_says()
    submit("fit", "--config", "c.yaml", "--run_dir", "r", "--data.shots", "2")
    said = capsys.readouterr().out
    folder = here / "r"
    assert "Submitted job 17 (Slurm)" in said
    assert f"{folder}/logs/17.log" in said
    for command in ("status", "logs", "cancel"):
        assert f"python train.py {command} {folder}" in said
    assert got("sbatch") == (folder / "job.sh").read_text()
    settings = yaml.safe_load((folder / "job.yaml").read_text())
    assert settings["data"]["init_args"]["shots"] == 2
    assert settings["trainer"]["devices"] == settings["trainer"]["num_nodes"] == 1
    job = read_job(folder)
    assert job.tasks == [Task("", folder, "17", folder / "logs" / "17.log")]
    assert job.about["directory"] == str(here)
    assert "submit --cluster" in job.about["command"]


@pytest.mark.parametrize(
    ("answers", "code", "expected"),
    [
        ({"squeue": "17 PENDING\n"}, None, "PENDING"),
        ({"squeue": "17 RUNNING\n", "sacct": "17|FAILED\n"}, None, "RUNNING"),
        ({"squeue": "17 TIMEOUT\n"}, 75, "TIMEOUT"),
        ({"sacct": "17|CANCELLED by 1000\n"}, 0, "CANCELLED"),
        ({}, 0, "COMPLETED"),
        ({}, 1, "FAILED"),
        ({}, 75, "UNKNOWN"),
        ({}, 143, "UNKNOWN"),
        ({}, None, "UNKNOWN"),
    ],
)
def test_status(answers, code, expected, here, capsys, slurm_says):
    submit("fit", "--config", "c.yaml", "--run_dir", "r")
    slurm_says(**answers)
    if code is not None:
        (here / "r" / "job.exit").write_text(f"{code}\n")
    (here / "r" / "logs" / "17.log").write_text("one\ntwo\rthree \x1b[0m\n\n")
    capsys.readouterr()
    main(["status", "r"])
    head, row = capsys.readouterr().out.splitlines()
    assert head.split() == ["run", "job", "state", "exit", "code", "last", "line"]
    assert row.split() == ["r", "17", expected, *([] if code is None else [str(code)]), "three"]


def test_folder_in_use(here, capsys, slurm_says):
    args = ["fit", "--config", "c.yaml", "--run_dir", "r"]
    submit(*args)
    first = (here / "r" / "job.json").read_text()
    slurm_says(squeue="17 PENDING\n")
    said = complaint(capsys, lambda: submit(*args))
    assert re.match(r"run_dir: .*/r has a job that has not ended, 17 \(PENDING\); .*cancel", said)
    assert (here / "r" / "job.json").read_text() == first
    slurm_says(squeue="17 COMPLETED\n")
    submit(*args)
    assert (here / "r" / "job-1.json").read_text() == first


def test_cancel(here, capsys, slurm_says):
    submit("fit", "--config", "c.yaml", "--run_dir", "r")
    got = slurm_says(squeue="17 RUNNING\n")
    main(["cancel", "r"])
    assert got("scancel") == "17\n"
    slurm_says(squeue="17 CANCELLED\n")
    main(["cancel", "r"])
    assert "Job 17 had ended already" in capsys.readouterr().out


def test_slurm_that_does_not_answer(here, capsys, slurm_says, tmp_path):
    submit("fit", "--config", "c.yaml", "--run_dir", "r")
    (tmp_path / "bin" / "squeue").write_text("#!/bin/bash\necho 'Unable to contact controller' >&2; exit 1\n")
    for command in (
        ["status", "r"],
        ["submit", "--cluster", "Slurm", "fit", "--config", "c.yaml", "--run_dir", "r"],
    ):
        said = complaint(capsys, lambda command=command: main(command))
        assert said == "SLURM does not report the state of job 17: Unable to contact controller"


def test_states_that_slurm_may_go_on_from_are_not_the_end():
    assert not {"PENDING", "RUNNING", "COMPLETING", "REQUEUED", "SUSPENDED", "CONFIGURING"} & ENDED


def test_the_same_python_runs_the_job(here, capsys):
    (call,) = calls_of(script_of(capsys, "fit", "--config", "c.yaml"))
    assert call[:4] == ["srun", sys.executable, "-m", "metalit"]


def test_one_machine_has_no_second_process(here, capsys):
    path = write_yaml(here / "two.yaml", changed(protonet(), {"trainer.devices": 2}))
    script = script_of(capsys, "fit", "--config", path, cluster="local.yaml")
    assert calls_of(script)[0][0] == sys.executable  # the trainer starts its processes itself


# the time limit


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("90", 5400),
        ("2:30", 150),
        ("0:01:00", 60),
        ("12:00:00", 43200),
        ("1-12", 129600),
        ("1-0:30", 88200),
        ("2-00:00:01", 172801),
        ("UNLIMITED", None),
    ],
)
def test_times_as_sbatch_reads_them(time, expected):
    assert seconds(time) == expected


@pytest.mark.parametrize(
    ("time", "found"),
    [("0:01:00", "0:01:00, 60 seconds"), ("0:02:00", "0:02:00, 120 seconds"), ("3:30", "3:30, 210 seconds")],
)
def test_a_time_limit_within_the_grace(time, found, here, capsys):
    options = ["--cluster.time", time, "--dry_run", "fit", "--config", "c.yaml"]
    said = complaint(capsys, lambda: submit(*options))
    assert re.match(rf"cluster\.time is {found}, expected at least 240 seconds", said)
    assert [path.name for path in here.iterdir()] == ["c.yaml"]


def test_a_time_limit_that_leaves_time(here, capsys):
    assert options_of(script_of(capsys, "--cluster.time", "0:04:00", "fit", "--config", "c.yaml"))["time"] == "0:04:00"
    small = ["--cluster.time", "0:02:10", "--cluster.grace", "10"]
    assert options_of(script_of(capsys, *small, "fit", "--config", "c.yaml"))["signal"] == "USR1@10"


def test_a_time_limit_that_is_none(here, capsys):
    said = complaint(capsys, lambda: submit("--cluster.time", "soon", "--dry_run", "fit", "--config", "c.yaml"))
    assert said.startswith("cluster.time is soon, expected minutes, hours:minutes:seconds or ")


def test_the_signal_before_the_time_limit_does_not_end_a_run_that_starts(here, capsys):
    script = script_of(capsys, "--cluster.python", "PROGRAM", "fit", "--config", "c.yaml")
    (call,) = [line for line in script.splitlines() if " --run_dir " in line]
    fake = """import os, signal, sys; os.kill(os.getpid(), signal.SIGUSR1); print(sys.argv[1:4])"""
    call = call.removeprefix("srun ").replace("PROGRAM", f"{shlex.quote(sys.executable)} -c {shlex.quote(fake)}")
    done = subprocess.run(["bash", "-c", f"run=here; {call}"], capture_output=True, text=True, check=True)
    assert "'fit'" in done.stdout
