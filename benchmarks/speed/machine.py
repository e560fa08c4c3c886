"""The machine in words: what a reader of figures must know about where and when they were taken."""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

ROOT = Path(__file__).parents[2]
PACKAGES = ("metalit", "torch", "lightning", "learn2learn")
PEERS = ("higher", "torchopt", "jax")


def machine(device: torch.device, program: str, packages: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Return date, command, device, processor and versions by name.

    Args:
        device: where the figures are taken.
        program: the module that takes them.
        packages: whose versions are told.
    """
    told = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", "-m", program, *sys.argv[1:]]),
        "device": f"{device.type}: {device_name(device)}",
        "cpu": f"{processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s) of torch",
        "python": platform.python_version(),
    }
    told |= {name: installed(name) for name in packages}
    told["commit"] = output("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "unknown"
    if device.type == "cuda":
        told["driver"] = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader") or "unknown"
        told["cuda"] = f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
        told["nccl"] = ".".join(map(str, torch.cuda.nccl.version()))
    return told


def device_name(device: torch.device) -> str:
    """Return the name of an accelerator with its memory, or of the processor."""
    if device.type != "cuda":
        return processor()
    properties = torch.cuda.get_device_properties(device)
    return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, {properties.major}.{properties.minor}"


def processor() -> str:
    """Return the name of the CPU, where the system tells it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def installed(package: str) -> str:
    """Return a package's version, or that it is missing."""
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return "not installed"


def output(*command: str) -> str:
    """Return the first line that a program prints; nothing if it is missing or fails."""
    if shutil.which(command[0]) is None:
        return ""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip().partition("\n")[0] if done.returncode == 0 else ""


def checked_device(name: str) -> torch.device:
    """Return a device that is there.

    Raises:
        ValueError: there is no such device.
    """
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"{name} is no device: give cuda, cuda:1, ..., or cpu") from None
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"there is no {name} here (torch {torch.__version__}, {torch.cuda.device_count()} GPUs): "
            "run this on a machine that has it, or on the CPU (cpu)"
        )
    return torch.device("cuda", device.index or 0)
