"""The program as it is installed: shipped configs, modules of the user's own, its name, its version, other systems."""

import importlib.util
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import metalit
from commands import complaint, maml, read_options, write_yaml
from metalit.cli.program import import_from_working_directory, program_name
from metalit.cli.shipped import config_path, folder, names
from metalit.commands.sweeps import read_sweep
from metalit.main import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["metalit:omniglot/maml", "metalit:omniglot/maml.yaml"])
def test_shipped_config(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = read_options(monkeypatch, ["fit", "--config", name, "--data.ways", "4"])
    assert options.model.class_path.endswith("MAML")
    assert options.data.init_args.ways == 4


def test_every_file_has_a_name():
    assert folder() == ROOT / "configs"
    assert {config_path(f"metalit:{name}") for name in names()} == set((ROOT / "configs").rglob("*.yaml"))
    assert {"omniglot/maml", "cluster/slurm", "sweep/seeds", "trainer/gpu"} <= set(names())


def test_names_of_shipped_configs_are_listed(capsys):
    def said(name):
        return complaint(capsys, lambda: main(["fit", "--config", name]))

    assert said("metalit:").startswith("config: metalit: is none of the files that metalit comes with; there are files")
    assert {"metalit:glyphs,", "metalit:omniglot,", "metalit:sinusoid,"} <= set(said("metalit:").split())
    assert "there are metalit:glyphs/maml or metalit:glyphs/protonet" in said("metalit:glyphs")
    assert "did you mean metalit:glyphs/protonet? there are" in said("metalit:glyphs/protonets")
    assert "there are files in" in said("metalit:nothing/of/the/kind")


def test_mistake_names_the_shipped_file_as_it_was_given(tmp_path, capsys):
    overlay = write_yaml(tmp_path / "o.yaml", {"data": {"init_args": {"shots": "x"}}})
    line = complaint(capsys, lambda: main(["fit", "--config", "metalit:glyphs/maml", "--config", overlay]))
    assert line == f"data.shots: found x, expected a whole number ({overlay}, line 3)"


def test_shipped_files_of_clusters_and_sweeps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    files = ["--cluster", "metalit:cluster/slurm", "--sweep", "metalit:sweep/glyphs_methods"]
    main(["submit", *files, "--dry_run", "fit", "--config", "metalit:glyphs/maml"])
    said = capsys.readouterr().out
    assert "#SBATCH --cpus-per-task=4" in said
    assert "config=glyphs-protonet,seed_everything=0" in said
    line = complaint(capsys, lambda: main(["submit", "--cluster", "metalit:cluster/slrum", "fit"]))
    assert "did you mean metalit:cluster/slurm?" in line
    (tmp_path / "s.yaml").write_text("list: [{config: metalit:glyphs/mamll}]")
    with pytest.raises(ValueError, match=r"did you mean metalit:glyphs/maml\?"):
        read_sweep(tmp_path / "s.yaml")


@pytest.mark.parametrize(
    ("started", "name"),
    [
        ("/usr/bin/metalit", "metalit"),
        ("C/metalit.exe", "metalit"),
        ("x/site-packages/metalit/__main__.py", "python -m metalit"),
        ("train.py", "python train.py"),
    ],
)  # fmt: skip
def test_messages_name_the_program_that_was_started(started, name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [started])
    assert program_name() == name
    assert f"see {name} fit --help" in complaint(capsys, lambda: main(["fit", "--zzz.zzz", "1"]))
    for command in ("fit", "status"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
        assert f"{name} " in capsys.readouterr().out.partition("\n\n")[0]


def test_advice_names_the_program_that_was_started(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["bin/metalit"])
    config = write_yaml(tmp_path / "c.yaml", maml())
    main(["fit", "--config", config, "--run_dir", str(tmp_path / "run"), "--trainer.max_steps", "1"])
    assert "\n  metalit test --config" in capsys.readouterr().out


@pytest.mark.parametrize(("started", "finds"), [("bin/metalit", True), ("train.py", False)])
def test_the_working_directory_is_searched_for_modules(started, finds, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", [started])
    monkeypatch.setattr("sys.path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    import_from_working_directory()
    assert (sys.path[0] == str(tmp_path)) == finds


def test_version(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"metalit {metalit.__version__}\n"


@pytest.mark.slow
def test_import_where_there_is_no_fcntl(tmp_path):
    # as on Windows
    code = """
import signal, sys
sys.modules["fcntl"] = None
del signal.SIGUSR1, signal.SIGUSR2
import metalit, metalit.cli, metalit.commands
from metalit.runs import claim
from pathlib import Path
assert claim(Path("run")) is None
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_wheel(tmp_path):
    if importlib.util.find_spec("hatchling") is None:
        pytest.skip("needs hatchling, which builds the wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", tmp_path]
    subprocess.run(build, cwd=ROOT, check=True)
    venv.create(tmp_path / "venv")
    python, program = (tmp_path / "venv" / "bin" / name for name in ("python", "metalit"))
    (wheel,) = tmp_path.glob("metalit-*.whl")
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(install, check=True)
    (place,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (place / "others.pth").write_text(sysconfig.get_path("purelib"))  # what metalit depends on
    work = tmp_path / "work"
    work.mkdir()
    (work / "mine.py").write_text("from metalit.data import Glyphs\nclass Mine(Glyphs):\n    'Mine.'\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*args):
        done = subprocess.run([program, *args], cwd=work, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    assert run("--version") == (0, f"metalit {metalit.__version__}\n")
    small = ["--data.eval_tasks_per_batch", "2", "--data.val_episodes", "4", "--run_dir", "run"]
    code, said = run(
        "fit",
        "--config",
        "metalit:glyphs/protonet",
        "--data",
        "mine.Mine",
        *small,
        "--trainer.max_steps",
        "1",
    )
    assert code == 0, said
    assert "\n  metalit test --config run/config.yaml" in said
    code, said = run("fit", "--config", "metalit:")
    assert code == 2
    assert "metalit:omniglot" in said
    code, said = run("submit", "--cluster", "metalit:cluster/local", "--dry_run", "fit", "--config", "run/config.yaml")
    assert code == 0, said
    assert "-m metalit fit" in said
    load = "import metalit; print(type(metalit.load('run').data).__name__)"
    done = subprocess.run([python, "-c", load], cwd=work, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "Mine\n", done.stderr
