"""The folder of a run: a new one, and whether this process may write into it."""

import os
import socket
from datetime import datetime, timedelta
from pathlib import Path
from typing import TextIO

import lightning as L
import torch.distributed
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from metalit.errors import UserError
from metalit.locks import lock_for_process

RUN_DIR_VARIABLE = "METALIT_RUN_DIR"  # tells the processes that Lightning starts which folder the first one chose
LOCK = ".fit.lock"
PATIENCE = timedelta(minutes=2)  # with the first process, to say which folder it chose


def writable_run_folder(trainer: L.Trainer) -> Path | None:
    """Return the run folder (``default_root_dir``), made if need be; ``None`` if this process is not to write there.

    Rank zero alone writes, and nobody in a ``fast_dev_run``: a single batch must not stand in for a result.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set outside its class
        return None
    folder = Path(trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def common_new_folder(parent: Path) -> Path:
    """Return a folder for a new run, the same one in all processes of the run, whoever started them.

    Within a SLURM job it is named by job and step, so that the job finds it again when it is requeued; else by the
    time.
    """
    if RUN_DIR_VARIABLE in os.environ and "LOCAL_RANK" in os.environ:
        return Path(os.environ[RUN_DIR_VARIABLE])
    job = SLURMEnvironment.job_id()
    if job is not None and "SLURM_STEP_ID" in os.environ:
        return parent / f"slurm-{job}.{os.environ['SLURM_STEP_ID']}"
    folder = new_folder(parent / datetime.now().strftime("%Y-%m-%d_%H-%M-%S"))
    if TorchElasticEnvironment.detect():
        return Path(said_by_first_rank(str(folder)))
    os.environ[RUN_DIR_VARIABLE] = str(folder)
    return folder


def said_by_first_rank(text: str) -> str:
    """Return the ``text`` of the first of the processes that torchrun started, by way of torchrun's own store.

    Raises:
        ValueError: there is no such store.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError("run_dir: these processes cannot agree on a new folder by themselves: give --run_dir")
    key = f"metalit/{RUN_DIR_VARIABLE}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = torch.distributed.TCPStore(address, port, is_master=False, timeout=PATIENCE)  # type: ignore[attr-defined]
    if os.environ["RANK"] == "0":
        store.set(key, text)
    return str(store.get(key).decode())


def new_folder(path: Path) -> Path:
    """Return ``path``, or with a number behind it if it is there already: two runs may start in the same second."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def check_writable(run_dir: Path) -> None:
    """Refuse a run folder in which nothing can be written.

    Raises:
        ValueError: with the folder that forbids it.
    """
    nearest = next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.exists())
    problem = None
    if not nearest.is_dir():
        problem = "is not a folder"
    elif not (nearest.stat().st_mode & 0o222 and os.access(nearest, os.W_OK)):
        problem = "is read-only"
    if problem:
        raise UserError(f"run_dir: {run_dir} cannot be written, for {nearest} {problem}; name another --run_dir")


def claim(run_dir: Path) -> TextIO | None:
    """Return an open file, which keeps a run folder to this process: two trainings must not write into one.

    The claim ends when the file is closed or the process ends, however it ends, and processes started from this one do
    not share it. None on a file system without locks, or without room; and where the claim is of this same SLURM job,
    which has been queued again: a machine that went down may leave it behind on a network file system.

    Raises:
        ValueError: another process has it; with its number and machine.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    file, job_id = (run_dir / LOCK).open("a+", encoding="utf-8"), SLURMEnvironment.job_id()
    job = "" if job_id is None else f" of job {job_id}"
    try:
        lock_for_process(file)
        file.truncate(0)
        file.write(f"process {os.getpid()}{job} on {socket.gethostname()}")
        file.flush()
    except (BlockingIOError, PermissionError):
        file.seek(0)
        holder = file.read() or "another process"
        file.close()
        if job and f"{job} on " in holder:
            return None
        raise UserError(
            f"run_dir: {holder} is training in {run_dir}; wait for its end, or name another --run_dir"
        ) from None
    except OSError:
        file.close()
        return None
    return file
