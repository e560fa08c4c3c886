"""A copy of the code, so that edits made while a job waits in the queue do not change the job."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import metalit
from metalit.cluster.base import RECORD
from metalit.errors import UserError
from metalit.runs.versions import CHANGED

LARGEST = 50 * 2**20  # bytes in total: code is small, and each job has its own copy
RUNS = "runs"  # default parent of run folders
PACKAGE = Path("src") / "metalit"  # place of metalit's own source in the copy


class Code(NamedTuple):
    """The code that a run needs.

    Attributes:
        root: the folder that is copied: the git repository of the working directory, or the working directory itself.
        files: the files to copy, relative to ``root``.
        package: metalit's own source, if it is a checkout elsewhere; None if it is in ``files`` or installed.
        commit: the commit that is checked out; None without git.
        changed: whether there are uncommitted changes; None without git.
    """

    root: Path
    files: tuple[Path, ...]
    package: Path | None
    commit: str | None
    changed: bool | None

    def copy(self, folder: Path) -> None:
        """Copy the files into a new folder."""
        for file in self.files:
            copy_file(self.root / file, folder / file)
        # A checkout of metalit elsewhere may be edited as well while the job waits.
        for file in source_files(self.package):
            assert self.package is not None
            copy_file(file, folder / PACKAGE / file.relative_to(self.package))

    def program(self) -> Path | None:
        """Return the path of the running program in the copy, or None if the program is not copied."""
        script = Path(sys.argv[0]).resolve()
        is_copied = script.is_relative_to(self.root) and script.relative_to(self.root) in self.files
        return script.relative_to(self.root) if is_copied else None

    def version(self) -> str | None:
        """Return the commit, marked ``-dirty`` if there are uncommitted changes; None without git."""
        return self.commit and self.commit + (CHANGED if self.changed else "")

    def import_paths(self) -> list[Path]:
        """Return the import paths in the copy: the working directory and its ``src``, then the top and its ``src``."""
        here = Path.cwd().resolve().relative_to(self.root)
        return list(dict.fromkeys([here, here / "src", Path(), Path("src")]))


def find_code(here: Path, run_dir: Path) -> Code:
    """Return the code needed by a run that is started in ``here``.

    Args:
        here: the working directory.
        run_dir: the run folder. Run folders are left out of the copy: the output of runs is not code.

    Raises:
        UserError: the files are too large to be code.
    """
    here, run_dir = here.resolve(), run_dir.resolve()
    top = git(here, "rev-parse", "--show-toplevel")
    root = here if top is None else Path(top)
    names = [Path(name) for name in (python_files(here) if top is None else git_files(root))]
    # The default place of run folders, the folder of this run, and every folder with the record of a job.
    of_runs = {here / RUNS, root / RUNS, run_dir, *(root / folder for folder in job_folders(root, names))}
    # The root and its parents do not count as run folders: else --run_dir . would leave out everything.
    files = [name for name in names if not of_runs.intersection((root / name).parents) - {root, *root.parents}]
    package = Path(metalit.__file__).resolve().parent
    is_copied = package.is_relative_to(root) and (package / "__init__.py").relative_to(root) in files
    # An installed package is not copied: the job imports it from its environment.
    is_installed = {"site-packages", "dist-packages"} & set(package.parts)
    code = Code(
        root=root,
        files=tuple(files),
        package=None if is_copied or is_installed else package,
        commit=git(root, "rev-parse", "HEAD"),
        changed=None if top is None else bool(git(root, "status", "--porcelain")),
    )
    check_size(code)
    return code


def job_folders(root: Path, names: Iterable[Path]) -> set[Path]:
    """Return the folders of jobs that contain some of the files ``names``."""
    folders = {folder for name in names for folder in name.parents}
    return {folder for folder in folders if (root / folder / RECORD).exists()}


def check_size(code: Code) -> None:
    """Refuse a copy that would contain data.

    Raises:
        UserError: with the largest files.
    """
    sizes = {file: (code.root / file).stat().st_size for file in code.files}
    total = sum(sizes.values())
    if total <= LARGEST:
        return
    largest = sorted(sizes, key=lambda file: sizes[file], reverse=True)[:3]
    names = ", ".join(f"{file} ({sizes[file] / 2**20:.0f} MiB)" for file in largest)
    raise UserError(
        f"the code in {code.root} has {total / 2**20:.0f} MiB, of which each job gets a copy, and at most "
        f"{LARGEST / 2**20:.0f} MiB are allowed; the largest are {names}: list data in .gitignore, or submit from a "
        "folder with code alone"
    )


def git(folder: Path, *command: str) -> str | None:
    """Return the output of a git command, or None if it fails: no git, no repository, no commit."""
    if shutil.which("git") is None:
        return None
    done = subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.rstrip("\n")


def git_files(root: Path) -> Iterator[str]:
    """Yield the files of a repository, including submodules and untracked files, without ignored ones."""
    for which in (("--recurse-submodules",), ("--others", "--exclude-standard")):
        # With -z names are not quoted, and a NUL ends each.
        listed = git(root, "ls-files", "-z", *which) or ""
        # A file that was deleted without git is still listed.
        yield from (name for name in listed.split("\0") if name and (root / name).is_file())


def python_files(root: Path) -> Iterator[str]:
    """Yield the Python files below a folder that is no repository, without hidden folders and virtual environments."""
    for folder, inner, names in os.walk(root):
        inner[:] = [name for name in inner if name[0] != "." and not (Path(folder) / name / "pyvenv.cfg").exists()]
        yield from (str((Path(folder) / name).relative_to(root)) for name in names if name.endswith(".py"))


def source_files(package: Path | None) -> Iterable[Path]:
    """Return the files of a package, without compiled bytecode."""
    if package is None:
        return []
    return [path for path in sorted(package.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def copy_file(source: Path, target: Path) -> None:
    """Copy a file; for a link, copy the file it points to."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)
