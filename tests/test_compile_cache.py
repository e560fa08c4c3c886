"""Compiled code outlives the process: where it is kept, and that the next process finds it."""

import os
import subprocess
import sys

import pytest

from metalit import compile_cache
from metalit.compile_cache import FOLDER_VARIABLE, keep_compiled_code, this_cpu

OLD, NEW = "model name : one\nflags : fpu avx2\n", "model name : one\nflags : fpu avx2 avx512f\n"


@pytest.fixture(autouse=True)
def nothing_chosen(tmp_path, monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, "")  # so that what a test sets is undone
    monkeypatch.delenv(FOLDER_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def chosen():
    keep_compiled_code()
    return os.environ.get(FOLDER_VARIABLE)


def test_code_is_kept_in_the_users_cache_by_processor(tmp_path):
    assert chosen() == str(tmp_path / "cache" / "metalit" / f"compiled-{this_cpu()}")


@pytest.mark.parametrize("given", ["", "relative"])
def test_without_a_folder_of_caches_it_is_in_the_home(given, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    assert chosen().startswith(str(tmp_path / "home" / ".cache" / "metalit"))


def test_the_users_own_choice_stays(monkeypatch):
    monkeypatch.setenv(FOLDER_VARIABLE, "mine")
    assert chosen() == "mine"


def test_a_folder_that_cannot_be_made_leaves_the_choice_to_torch(tmp_path):
    (tmp_path / "cache").write_text("a file in its place")
    assert chosen() is None


def test_a_folder_that_cannot_be_written_leaves_the_choice_to_torch(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    assert chosen() is None


def test_processors_with_other_instructions_have_other_folders(tmp_path, monkeypatch):
    names = []
    for text in (OLD, NEW, OLD + OLD, OLD + "cpu MHz : 2400\n"):
        (tmp_path / "cpuinfo").write_text(text)
        monkeypatch.setattr(compile_cache, "CPU_INFO", tmp_path / "cpuinfo")
        names.append(this_cpu())
    assert names[0] != names[1]
    assert names[0] == names[2] == names[3]  # the number of cores and their clock change nothing
    monkeypatch.setattr(compile_cache, "CPU_INFO", tmp_path / "none")
    assert len(this_cpu()) == len(names[0])  # elsewhere than on Linux


def test_the_command_line_chooses_before_torch_does(tmp_path):
    program = """
import os
from metalit.main import main
try:
    main(["fit", "--help"])
finally:
    print("chosen", os.environ["TORCHINDUCTOR_CACHE_DIR"])
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith(f"chosen {tmp_path}")


@pytest.mark.slow
def test_the_second_process_compiles_nothing(tmp_path):
    words = ["fit", "--config", "metalit:sinusoid/maml", "--trainer.fast_dev_run", "true", "--trainer.logger", "false"]

    def compiled():
        done = subprocess.run([sys.executable, "-m", "metalit", *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return {path for path in (tmp_path / "cache" / "metalit").rglob("*") if path.suffix in (".so", ".cpp")}

    first = compiled()
    assert first
    assert compiled() == first
