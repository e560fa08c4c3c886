"""The run folder: choosing a new one, and claiming it for one training."""

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

RUN_DIR_VARIABLE = "METALIT_RUN_DIR"  # passes the folder that the first process chose to those that Lightning starts
LOCK = ".fit.lock"
PATIENCE = timedelta(minutes=2)  # how long the other ranks wait for the first to announce its folder


def writable_run_folder(trainer: L.Trainer) -> Path | None:
    """Return the run folder (``default_root_dir``), created if needed; None if this process must not write.

    Only rank zero writes, and no rank in a ``fast_dev_run``: the result of a single batch must not look like a real
    one.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set outside its class
        return None
    folder = Path(trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def common_new_folder(parent: Path) -> Path:
    """Return a folder for a new run, the same in all processes of the run, whichever launcher started them.

    Within a SLURM job it is named after the job and the step, so that a requeued job finds it again; otherwise after
    the current time.
    """
    # a rank that Lightning started with the environment of the first one
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
    """Return the ``text`` of rank zero to every process started by torchrun, through torchrun's own store."""
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        raise UserError("run_dir: these processes cannot agree on a new folder by themselves: give --run_dir")
    # the store outlives a restart by torchrun, and the entry of the earlier attempt must not be read
    key = f"metalit/{RUN_DIR_VARIABLE}/{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = torch.distributed.TCPStore(address, port, is_master=False, timeout=PATIENCE)  # type: ignore[attr-defined]
    if os.environ["RANK"] == "0":
        store.set(key, text)
    return str(store.get(key).decode())


def new_folder(path: Path) -> Path:
    """Return ``path``, with a number appended if it exists: two runs may start in the same second."""
    number = 1
    while path.exists():
        number += 1
        path = path.with_name(f"{path.name.partition('~')[0]}~{number}")
    return path


def check_writable(run_dir: Path) -> None:
    """Refuse a run folder that cannot be written to.

    Raises:
        UserError: the message names the folder that prevents it.
    """
    # the run folder itself may not exist yet; then its nearest existing parent decides
    nearest = next(folder for folder in (run_dir.absolute(), *run_dir.absolute().parents) if folder.exists())
    # the mode bits too: os.access allows root everything
    is_writable = nearest.stat().st_mode & 0o222 and os.access(nearest, os.W_OK)
    if not nearest.is_dir() or not is_writable:
        problem = "is read-only" if nearest.is_dir() else "is not a folder"
        raise UserError(f"run_dir: {run_dir} cannot be written, for {nearest} {problem}; name another --run_dir")


def claim(run_dir: Path) -> TextIO | None:
    """Claim a run folder for this process and return the lock file: two trainings must not write into one folder.

    The claim lasts until the file is closed or the process ends, even if it is killed; child processes do not share it.

    Returns:
        The open, locked file. None on a file system without locks or without free space, and where the claim belongs
        to this same, requeued SLURM job: a node that went down may leave its lock behind on a network file system.

    Raises:
        UserError: another process holds the claim; the message gives its process id and host.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    file = (run_dir / LOCK).open("a+", encoding="utf-8")  # not truncated: it says who holds the claim
    job_id = SLURMEnvironment.job_id()
    job = "" if job_id is None else f" of job {job_id}"
    try:
        lock_for_process(file)
        file.truncate(0)
        file.write(f"process {os.getpid()}{job} on {socket.gethostname()}")
        file.flush()
    except (BlockingIOError, PermissionError):  # POSIX allows either error for a lock that is held
        file.seek(0)
        holder = file.read() or "another process"
        file.close()
        if job and f"{job} on " in holder:
            return None
        message = f"run_dir: {holder} is training in {run_dir}; wait for its end, or name another --run_dir"
        raise UserError(message) from None
    except OSError:
        file.close()
        return None
    return file
