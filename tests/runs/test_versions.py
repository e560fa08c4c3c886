"""What code a run was made with."""

import subprocess

import pytest

from metalit.runs.versions import code_version, software_versions


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.delenv("METALIT_COMMIT", raising=False)
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    (tmp_path / "file").write_text("1")
    for command in (["init", "--quiet"], ["add", "file"], [*identity, "commit", "--quiet", "-m", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    return tmp_path


def head(folder):
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_commit_and_changes(repository):
    assert code_version(repository) == {**software_versions(), "commit": head(repository), "dirty": False}
    (repository / "file").write_text("2")
    assert code_version(repository)["dirty"] is True


def test_commit_of_a_copy(repository, monkeypatch):
    monkeypatch.setenv("METALIT_COMMIT", "abc")
    (repository / "file").write_text("2")
    assert code_version(repository) == {**software_versions(), "commit": "abc", "dirty": False}
    monkeypatch.setenv("METALIT_COMMIT", "abc-dirty")
    assert code_version(repository) == {**software_versions(), "commit": "abc", "dirty": True}


def test_no_commit_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.delenv("METALIT_COMMIT", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_version(tmp_path) == software_versions()
    monkeypatch.setenv("PATH", "")
    assert code_version(tmp_path) == software_versions()
