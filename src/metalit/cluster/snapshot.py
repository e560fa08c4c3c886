"""A copy of the code, so that edits made while a job waits in the queue do not change the job."""

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import metalit
from metalit.cluster.base import RECORD
from metalit.errors import UserError
from metalit.runs.versions import git

LARGEST = 50  # MiB in total: code is small, and each job has its own copy
RUNS = "runs"  # default parent of run folders
PACKAGE = Path("src") / "metalit"  # place of metalit's own source in the copy


class Code(NamedTuple):
    """The code that a run needs."""

    root: Path  # the git repository of the working directory, or else the working directory itself
    # By their path in the copy: the files of root, and metalit's own source if it is a checkout elsewhere, which may be
    # edited as well while the job waits.
    files: Mapping[Path, Path]
    commit: str | None  # the commit that is checked out; None without git
    changed: bool | None  # whether there are uncommitted changes; None without git

    def copy(self, folder: Path) -> None:
        """Copy the files into a new folder; for a link, the file it points to."""
        for path, file in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / path)

    def program(self) -> Path | None:
        """Return the path of the running program in the copy, or None if the program is not copied."""
        script = Path(sys.argv[0]).resolve()
        return next((path for path in self.files if self.root / path == script), None)

    def import_paths(self) -> list[Path]:
        """Return the import paths in the copy: the working directory and its ``src``, then the top and its ``src``."""
        here = Path.cwd().resolve().relative_to(self.root)
        return list(dict.fromkeys([here, here / "src", Path(), Path("src")]))


def find_code(here: Path, run_dir: Path) -> Code:
    """Return the code needed by a run that is started in ``here``; refuse files that are too large to be code.

    Run folders, of which ``run_dir`` is one, are left out: the output of runs is not code.
    """
    here, run_dir = here.resolve(), run_dir.resolve()
    top = git(here, "rev-parse", "--show-toplevel")
    root = here if top is None else Path(top)
    found = list(python_files(here) if top is None else git_files(root))
    of_jobs = {folder for folder in {folder for file in found for folder in file.parents} if (folder / RECORD).exists()}
    # The root and its parents do not count as run folders: else --run_dir . would leave out everything.
    of_runs = {here / RUNS, root / RUNS, run_dir, *of_jobs} - {root, *root.parents}
    files = {file.relative_to(root): file for file in found if of_runs.isdisjoint(file.parents)}
    check_size(root, files)
    package = Path(metalit.__file__).resolve().parent
    # An installed package is not copied: the job imports it from its environment.
    is_installed = {"site-packages", "dist-packages"} & set(package.parts)
    if not is_installed and package / "__init__.py" not in files.values():
        source = [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
        files |= {PACKAGE / path.relative_to(package): path for path in source}
    changed = None if top is None else bool(git(root, "status", "--porcelain"))
    return Code(root, files, git(root, "rev-parse", "HEAD"), changed)


def check_size(root: Path, files: Mapping[Path, Path]) -> None:
    """Refuse a copy that would contain data."""
    sizes = {path: file.stat().st_size / 2**20 for path, file in files.items()}
    total = sum(sizes.values())
    if total > LARGEST:
        largest = sorted(sizes, key=lambda path: sizes[path], reverse=True)[:3]
        names = ", ".join(f"{path} ({sizes[path]:.0f} MiB)" for path in largest)
        raise UserError(
            f"the code in {root} has {total:.0f} MiB, of which each job gets a copy, and at most {LARGEST} MiB are "
            f"allowed; the largest are {names}: list data in .gitignore, or submit from a folder with code alone"
        )


def git_files(root: Path) -> Iterator[Path]:
    """Yield the files of a repository, including submodules and untracked files, without ignored ones."""
    for which in (("--recurse-submodules",), ("--others", "--exclude-standard")):
        # With -z names are not quoted, and a NUL ends each.
        listed = git(root, "ls-files", "-z", *which) or ""
        # A file that was deleted without git is still listed.
        yield from (root / name for name in listed.split("\0") if (root / name).is_file())


def python_files(root: Path) -> Iterator[Path]:
    """Yield the Python files below a folder that is no repository, without hidden folders and virtual environments."""
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name[0] != "." and not (Path(folder) / name / "pyvenv.cfg").exists()]
        yield from (Path(folder) / name for name in names if name.endswith(".py"))
