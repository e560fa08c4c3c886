"""What becomes of a run when its disk or its data fail: one clear line, and the last checkpoint as it was."""

import errno
import os
import resource
import shutil
import subprocess
from contextlib import contextmanager
from functools import partial
from urllib.error import URLError

import pytest
import torch

from commands import changed, complaint, maml, write_yaml
from metalit.main import main
from metalit.runs import RunCheckpoint, checkpoint_files
from miniature import write_omniglot

ENOUGH = "1m"  # for a run that keeps no figures and no logs, and for little else


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, so small that it can be filled."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ENOUGH}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    make_writable(folder)
    subprocess.run(["umount", str(folder)], check=True)


def fill(folder):
    """Leave no room on the file system of a folder."""
    with (folder / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue


def make_read_only(folder):
    """Let no file of a folder be opened for writing any more; those that are open may stay so."""
    subprocess.run(["mount", "--bind", str(folder), str(folder)], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True)


def make_writable(folder):
    """Allow it again, and make room."""
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        subprocess.run(["umount", str(folder)], check=True)
    (folder / "filler").unlink(missing_ok=True)


@contextmanager
def files_of_at_most(size):
    """Have every write beyond so many bytes fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoints(run):
    """Return every checkpoint's content."""
    return {path.name: path.read_bytes() for path in (run / "checkpoints").iterdir()}


def steps_of(run):
    return torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]


@pytest.fixture
def fit(tmp_path):
    """A function that trains in a folder until so many steps, going on with what is there."""
    config = write_yaml(tmp_path / "c.yaml", maml())

    def train(run, steps, *args):
        where = ["--run_dir", str(run), "--ckpt_path", "last"]
        main(["fit", "--config", config, *where, "--trainer.max_steps", str(steps), *args])

    return train


def before_saving(monkeypatch, action):
    """Have something happen in the midst of training: before ``last.ckpt`` is saved for the first time."""
    save_now, done = RunCheckpoint.save_now, []

    def save(self, trainer):
        if not done:
            done.append(action())
        save_now(self, trainer)

    monkeypatch.setattr(RunCheckpoint, "save_now", save)
    return done


def test_full_disk_at_the_start(fit, disk, capsys):
    run = disk / "run"
    fit(run, 2)
    before = checkpoints(run)
    fill(disk)
    line = complaint(capsys, lambda: fit(run, 4))
    assert line.startswith(f"run_dir: {run} cannot be written (No space left on device)")
    assert checkpoints(run) == before
    make_writable(disk)
    fit(run, 4)
    assert steps_of(run) == 4


@pytest.mark.parametrize(
    ("fault", "reason", "logger"),
    [
        (fill, "No space left", "true"),  # the logs are written first
        (fill, "No space left", "false"),  # the checkpoint is
        (make_read_only, "Read-only file system", "false"),
    ],
)
@pytest.mark.sample(2)
def test_disk_that_fails_in_training(fault, reason, logger, fit, disk, capsys, monkeypatch):
    run = disk / "run"
    fit(run, 2, "--trainer.logger", logger)
    before = checkpoints(run)
    with monkeypatch.context() as patch:
        before_saving(patch, lambda: fault(disk))
        line = complaint(capsys, lambda: fit(run, 4, "--trainer.logger", logger))
    assert str(run) in line
    assert f"({reason}" in line
    assert "as it was" in line or "as they were" in line
    assert checkpoints(run) == before
    make_writable(disk)
    fit(run, 4, "--trainer.logger", logger)
    assert steps_of(run) == 4


def test_read_only_file_system_at_the_start(fit, disk, capsys):
    fit(disk / "run", 2)
    before = checkpoints(disk / "run")
    make_read_only(disk)
    line = complaint(capsys, lambda: fit(disk / "run", 4))
    assert line == f"run_dir: {disk}/run cannot be written, for {disk}/run is read-only; name another --run_dir"
    assert checkpoints(disk / "run") == before


def test_checkpoint_for_which_there_is_no_room(fit, tmp_path, capsys):
    run = tmp_path / "run"
    fit(run, 2, "--trainer.logger", "false")
    before = checkpoints(run)
    with files_of_at_most(len(before["last.ckpt"]) // 2):
        line = complaint(capsys, lambda: fit(run, 4, "--trainer.logger", "false"))
    assert line == (
        f"{run}/checkpoints/last.ckpt could not be written (File too large); {run}/checkpoints/last.ckpt is as it was"
    )
    assert checkpoints(run) == before
    fit(run, 4)
    assert steps_of(run) == 4


def test_full_disk_when_the_best_is_written_leaves_the_last(fit, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    write = checkpoint_files.atomic_write

    def no_room_for_best(path):
        if "best" in path.name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path)

    monkeypatch.setattr(checkpoint_files, "atomic_write", no_room_for_best)
    line = complaint(capsys, lambda: fit(run, 4, "--trainer.logger", "false"))
    assert line == (
        f"{run}/checkpoints/best.ckpt could not be written (No space left on device); {run}/checkpoints/last.ckpt is "
        "as it was"
    )
    assert steps_of(run) == 4


@pytest.mark.parametrize("logger", ["true", "false"])
@pytest.mark.parametrize("fault", ["removed", "moved"])
@pytest.mark.sample(2)
def test_run_folder_that_vanishes_in_training(fault, logger, fit, tmp_path, capsys, monkeypatch):
    run = tmp_path / "run"
    fit(run, 2, "--trainer.logger", logger)
    vanish = partial(shutil.rmtree, run) if fault == "removed" else partial(run.rename, tmp_path / "elsewhere")
    with monkeypatch.context() as patch:
        before_saving(patch, vanish)
        line = complaint(capsys, lambda: fit(run, 8, "--trainer.logger", logger))
    assert line == (
        f"run_dir: {run} was removed or moved while the training was writing into it, so what came after its last "
        "checkpoint is lost; if it was moved, go on with --run_dir NEW_PLACE --ckpt_path last"
    )
    assert not run.exists()
    if fault == "moved":
        fit(tmp_path / "elsewhere", 8, "--trainer.logger", logger)
        assert steps_of(tmp_path / "elsewhere") == 8


@pytest.mark.parametrize(("content", "damage"), [(b"", "empty"), (b"PK torn", "damaged")])
def test_damaged_last_with_nothing_before_it(content, damage, fit, tmp_path, capsys):
    run = tmp_path / "run"
    fit(run, 2, "--trainer.logger", "false")
    last, best, previous = (run / "checkpoints" / f"{name}.ckpt" for name in ("last", "best", "previous"))
    previous.unlink(missing_ok=True)
    last.write_bytes(content)
    start = f"{last} is {damage}, and there is no previous.ckpt to go on from: "
    line = complaint(capsys, lambda: fit(run, 4))
    assert line == (f"{start}go on from the best, --ckpt_path {best}, or remove {last} to start from the beginning")
    best.unlink()
    assert complaint(capsys, lambda: fit(run, 4)) == f"{start}remove it to start from the beginning"
    last.unlink()
    fit(run, 4)
    assert steps_of(run) == 4


def test_csv_logger_of_the_users_own_leaves_metrics_where_they_are(fit, tmp_path):
    own = ["--trainer.logger", "CSVLogger", "--trainer.logger.save_dir", str(tmp_path / "own")]
    fit(tmp_path / "run", 2, *own)
    assert (tmp_path / "run" / "metrics.csv").read_text().count("\n") >= 2
    assert list((tmp_path / "own").rglob("metrics.csv"))


# data


@pytest.fixture
def data(tmp_path, monkeypatch):
    """The folder of a miniature Omniglot, without a network to fetch it from."""

    def unreachable(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    return tmp_path / "data"


@pytest.fixture
def fit_omniglot(data, tmp_path):
    """A function that trains on it until so many steps, going on with what is there."""
    splits = write_omniglot(data).rename(tmp_path / "splits")
    settings = {
        "root": str(data),
        "splits": str(splits),
        "queries": 2,
        "tasks_per_batch": 2,
        "episodes_per_epoch": 8,
    }
    settings |= {"val_episodes": 2}
    config = write_yaml(
        tmp_path / "c.yaml", changed(maml(), {"data": {"class_path": "Omniglot", "init_args": settings}})
    )

    def train(steps, run="run"):
        where = ["--run_dir", str(tmp_path / run), "--ckpt_path", "last"]
        main(["fit", "--config", config, *where, "--trainer.max_steps", str(steps)])
        return tmp_path / run

    return train


def test_data_that_vanish_in_training_are_in_memory(fit_omniglot, data, monkeypatch):
    done = before_saving(monkeypatch, lambda: shutil.rmtree(data))
    run = fit_omniglot(8)  # two epochs, with validation
    assert done
    assert not data.exists()
    assert steps_of(run) == 8


def test_data_that_vanished_between_two_runs(fit_omniglot, data, capsys):
    run = fit_omniglot(2)
    before = checkpoints(run)
    shutil.rmtree(data)
    line = complaint(capsys, lambda: fit_omniglot(4))
    assert line.startswith(f"data.root is {data}, expected a folder with omniglot/images_background.zip")
    assert checkpoints(run) == before


def test_corrupt_cache_is_made_anew(fit_omniglot, data):
    weights = torch.load(fit_omniglot(2) / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    (cache,) = (data / "metalit-cache").iterdir()
    whole = cache.read_bytes()
    cache.write_bytes(whole[: len(whole) // 2])
    again = torch.load(fit_omniglot(2, "again") / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(value, again[name]) for name, value in weights.items())
    assert len(cache.read_bytes()) == len(whole)
