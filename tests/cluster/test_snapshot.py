"""The copy of the code: what is in it, and that a job runs it and not what was edited since."""

import shutil
import subprocess
from pathlib import Path

import pytest

import metalit
from metalit.cluster import snapshot
from metalit.cluster.snapshot import PACKAGE, find_code

FILES = ("train.py", "src/mine/model.py", "configs/a.yaml", "notes.txt")


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with code, settings and what runs leave; it is the working directory."""
    folder = tmp_path / "project"
    for name in (
        *FILES,
        "runs/old/code/train.py",
        "runs/old/checkpoints/last.ckpt",
        "mine/code/train.py",
        "jobs/a/code/b.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "jobs" / "a" / "job.json").touch()
    (folder / ".venv").mkdir()
    (folder / "env" / "lib").mkdir(parents=True)
    (folder / "env" / "pyvenv.cfg").touch()
    for environment in (".venv", "env/lib"):
        (folder / environment / "installed.py").touch()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def repository(project):
    """The same as a git repository, with one commit; data, log files and environments are ignored."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    (project / ".gitignore").write_text("*.log\n/data/\n/env/\n/.venv/\n")
    (project / "data").mkdir()
    (project / "data" / "large.bin").touch()
    (project / "out.log").touch()
    git(project, "init", "-q")
    git(project, "add", "train.py", "src", "configs", ".gitignore")
    git(project, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "first")
    return project


def git(folder, *command):
    subprocess.run(["git", "-C", str(folder), *command], check=True, capture_output=True)


def names(code):
    """What is copied of the working directory or its repository."""
    return {str(path) for path, file in code.files.items() if file.is_relative_to(code.root)}


def test_repository(repository):
    code = find_code(Path.cwd(), Path("mine"))
    assert names(code) == {*FILES, ".gitignore"}  # those not added yet too; nothing ignored, nothing of runs
    assert code.root == repository.resolve()
    assert len(code.commit) == 40
    assert code.changed  # notes.txt is new
    git(repository, "add", "-A", "-f")
    git(repository, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "second")
    assert find_code(Path.cwd(), Path("mine")).changed is False


def test_folder_that_is_no_repository(project, monkeypatch):
    monkeypatch.setattr(snapshot, "git", lambda *_: None)
    code = find_code(Path.cwd(), Path("mine"))
    assert names(code) == {name for name in FILES if name.endswith(".py")}
    assert code.commit is code.changed is None
    assert names(find_code(Path.cwd(), Path())) >= names(code)  # whoever has no run folders has code there


def test_deleted_file_is_no_obstacle(repository):
    (repository / "configs" / "a.yaml").unlink()
    assert "configs/a.yaml" not in names(find_code(Path.cwd(), Path("mine")))


def test_copy_does_not_change(repository, tmp_path):
    code = find_code(Path.cwd(), Path("mine"))
    code.copy(tmp_path / "copy")
    (repository / "train.py").write_text("edited")
    assert (tmp_path / "copy" / "train.py").read_text() == "train.py"
    assert (tmp_path / "copy" / "src" / "mine" / "model.py").exists()


def test_link_to_a_file_is_copied_as_the_file(repository, tmp_path):
    (tmp_path / "elsewhere.py").write_text("before")
    (repository / "linked.py").symlink_to(tmp_path / "elsewhere.py")
    find_code(Path.cwd(), Path("mine")).copy(tmp_path / "copy")
    (tmp_path / "elsewhere.py").write_text("after")
    assert (tmp_path / "copy" / "linked.py").read_text() == "before"


def test_from_within_a_repository(repository, monkeypatch):
    monkeypatch.chdir(repository / "configs")
    code = find_code(Path.cwd(), Path("run"))
    assert names(code) >= {"train.py", "configs/a.yaml"}
    assert [str(path) for path in code.import_paths()] == ["configs", "configs/src", ".", "src"]


def test_data_are_not_code(repository, monkeypatch):
    monkeypatch.setattr(snapshot, "LARGEST", 1)
    for name, size in (("small.bin", 1000), ("big.bin", 3 * 2**20), ("bigger.bin", 5 * 2**20)):
        (repository / name).write_bytes(bytes(size))
    with pytest.raises(ValueError, match=r"has 8 MiB.* bigger\.bin \(5 MiB\), big\.bin \(3 MiB\).*\.gitignore"):
        find_code(Path.cwd(), Path("mine"))


def test_metalits_own_source_is_copied_if_it_is_edited_elsewhere(project, tmp_path, monkeypatch):
    package = tmp_path / "checkout" / "src" / "metalit"
    (package / "__pycache__").mkdir(parents=True)
    for name in ("__init__.py", "py.typed", "__pycache__/x.pyc"):
        (package / name).touch()
    monkeypatch.setattr(metalit, "__file__", str(package / "__init__.py"))
    find_code(Path.cwd(), Path("mine")).copy(tmp_path / "copy")
    assert {path.name for path in (tmp_path / "copy" / PACKAGE).rglob("*")} == {"__init__.py", "py.typed"}


@pytest.mark.parametrize("place", ["src/metalit", "env/lib/site-packages/metalit"])
def test_metalits_own_source_is_copied_once_and_not_if_installed(place, project, monkeypatch):
    (project / place).mkdir(parents=True)
    (project / place / "__init__.py").touch()
    monkeypatch.setattr(metalit, "__file__", str(project / place / "__init__.py"))
    code = find_code(Path.cwd(), Path("mine"))
    assert all(file.is_relative_to(code.root) for file in code.files.values())
    assert ("src/metalit/__init__.py" in names(code)) == (place == "src/metalit")


@pytest.mark.parametrize(
    ("program", "expected"),
    [("train.py", "train.py"), ("runs/old/code/train.py", None), ("/usr/bin/metalit", None)],
)
def test_program_of_the_job(program, expected, project, monkeypatch):
    monkeypatch.setattr("sys.argv", [program, "submit"])
    found = find_code(Path.cwd(), Path("mine")).program()
    assert found == (None if expected is None else Path(expected))
