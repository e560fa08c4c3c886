"""A real SLURM."""

import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("slurm_node.sh")


def free_ports() -> int:
    """Return a port that is free together with the next one."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port = first.getsockname()[1]
            try:
                second.bind(("127.0.0.1", port + 1))
            except (OSError, OverflowError):
                continue
            return port


@pytest.fixture(scope="session")
def slurm_conf() -> Iterator[Path]:
    """The configuration of a SLURM of one node, which runs as long as the tests do."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "srun")
    path = "/usr/sbin:/sbin:/usr/bin:/bin"
    missing = [name for name in programs if shutil.which(name) is None and shutil.which(name, path=path) is None]
    if missing:
        pytest.skip(f"needs SLURM, but there is no {missing[0]}: {SCRIPT.name} install")
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))  # a short name: there is a socket in it
    try:
        started = subprocess.run(
            [SCRIPT, "start", folder, str(free_ports())],
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if started.returncode:
            pytest.skip(f"SLURM does not start here: {started.stdout}{started.stderr}"[-2000:])
        yield folder / "slurm.conf"
    finally:
        subprocess.run([SCRIPT, "stop", folder], check=False, timeout=120, capture_output=True)
        shutil.rmtree(folder)


@pytest.fixture
def slurm(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's own commands work, for a test and what it starts."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
