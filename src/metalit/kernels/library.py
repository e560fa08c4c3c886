"""The kernels in C++: compiled once on each machine, and kept in the user's cache folder."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

FLAGS = (
    "-O3", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC", "-std=c++17", "-fno-math-errno",
    "-fno-trapping-math", "-pthread",
)  # fmt: skip
# GCC's tuning for some processors fuses products and sums in some tiles and not in others, which changes bits
ALIKE = ("--param=avoid-fma-max-bits=0",) if platform.machine() in ("x86_64", "AMD64") else ()
OPENMP = "-fopenmp"  # torch's threads; Clang often comes without, and then there are others
SOURCES = ("block.cpp", "convolution.h", "norm_pool.h", "plan.h", "vectors.h")


def compiler() -> str | None:
    """Return the C++ compiler that torch's inductor would use, or None."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", "g++"), "clang++", "c++"))), None)


@cache
def library() -> ctypes.CDLL | str:
    """Return the compiled kernels, or why there are none."""
    path = compiler()
    if path is None:
        return "there is no C++ compiler"
    folder = files("metalit.kernels")
    sources = {name: folder.joinpath(name).read_bytes() for name in SOURCES}
    try:
        return ctypes.CDLL(str(compiled(path, sources)))
    except (OSError, subprocess.SubprocessError) as error:
        return f"{path} cannot compile them: {error}"


def missing() -> str | None:
    """Return why the kernels cannot be used on this machine, or None."""
    found = library()
    return found if isinstance(found, str) else None


def compiled(path: str, sources: dict[str, bytes]) -> Path:
    """Return the library of sources by name, compiled if the cache folder does not have it; the first is compiled."""
    # code for one processor may not run on another that shares the home folder
    machine = f"{platform.machine()} {processor()} {path}"
    parts = (*sources.values(), " ".join((machine, *FLAGS, *ALIKE, OPENMP)).encode())
    name = hashlib.sha256(b"".join(parts)).hexdigest()[:20]
    target = cache_folder() / f"{name}.so"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = Path(folder, "made.so")
        for file, source in sources.items():
            Path(folder, file).write_bytes(source)
        command = [path, *FLAGS, str(Path(folder, next(iter(sources)))), "-o", str(made)]
        if subprocess.run([*command, *ALIKE, OPENMP], check=False, capture_output=True, timeout=120).returncode:
            subprocess.run(command, check=True, capture_output=True, timeout=120)
        made.replace(target)  # at once, for several processes may start together
    return target


def cache_folder() -> Path:
    """Return the folder of the compiled kernels."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metalit" / "kernels"


def processor() -> str:
    """Return the features of this machine's processor, as Linux lists them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())
