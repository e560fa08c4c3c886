"""Hundreds of broken configurations: each is one line that names the option, and exit code 2.

They are a sample of all mutations of each experiment (see mutations.py), which another experiment does not change.
"""

import re
import zlib
from collections import defaultdict
from pathlib import Path
from urllib.error import URLError

import pytest

from commands import complaint, write_yaml
from metalit.main import main
from miniature import write_omniglot
from mutations import MORE, broken, whole
from yaml_files import read_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
# those of the other data sets need files, which tests/test_configs.py writes in miniature
WITHOUT_FILES = ("glyphs", "omniglot", "sinusoid")
EXPERIMENTS = [
    path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if path.parent.name in WITHOUT_FILES and "class_path" in read_yaml(path).get("model", {})
]
OMNIGLOT = {
    "root": "OMNIGLOT_ROOT",
    "splits": "OMNIGLOT_SPLITS",
}  # where the miniature is, known when tests run
OMNIGLOT_CLASSES = 64  # of the miniature's training split, with rotations
OF_EACH = {"key": 2}  # of each experiment; 1 of the other kinds

LEVELS = (
    "trainer.callbacks", "trainer.max_steps", "model.optimizer", "model.lr_scheduler", "model.engine",
    "model.network.body", "data.", "checkpoint", "run_dir", "threads", "seed_everything", "ckpt_path",
)  # fmt: skip


def in_miniature(path):
    settings = read_yaml(path)
    more = {"data.init_args": MORE["data.init_args"]}
    if path.parent.name == "omniglot":
        where = "data.init_args.images.init_args" if "images" in settings["data"]["init_args"] else "data.init_args"
        more[where] = more.get(where, {}) | OMNIGLOT
    if "classes" in settings["model"]["init_args"]:
        more["model.init_args"] = MORE["model.init_args"] | {"classes": OMNIGLOT_CLASSES}
    return whole(path, more)


def sample(path):
    """Return a few mutations of one experiment, of each kind; which, a hash of what they change says."""
    name = str(path.relative_to(CONFIGS))

    def number(mutation):
        return zlib.crc32(f"{name} {mutation.change}".encode())

    kinds = defaultdict(list)
    for mutation in sorted(broken(name, in_miniature(path)), key=number):
        kinds[mutation.kind].append(mutation)
    return [mutation for kind, mutations in kinds.items() for mutation in mutations[: OF_EACH.get(kind, 1)]]


MUTATIONS = [mutation for path in EXPERIMENTS for mutation in sample(path)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A miniature of Omniglot, and no network to fetch it from."""
    root = tmp_path_factory.mktemp("omniglot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", unreachable)
        yield {"OMNIGLOT_ROOT": str(root), "OMNIGLOT_SPLITS": str(write_omniglot(root))}


def unreachable(*args, **kwargs):
    raise URLError("no network")


@pytest.fixture
def fit(data, tmp_path, monkeypatch):
    """A function that trains from settings."""
    monkeypatch.chdir(tmp_path)

    def run(settings):
        config = Path(write_yaml(tmp_path / "c.yaml", settings))
        text = config.read_text()
        for name, value in data.items():
            text = text.replace(name, value)
        config.write_text(text)
        main(["fit", "--config", "c.yaml"])

    return run


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_whole_configuration_is_right(path, fit):
    fit(in_miniature(path))


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=[f"{mutation.experiment}: {mutation.change}" for mutation in MUTATIONS]
)
@pytest.mark.sample(24)
def test_broken_configuration(mutation, fit, capsys):
    line = complaint(capsys, lambda: fit(mutation.make()))
    named = [re.search(rf"^{re.escape(key)}: |(?<![\w.]){re.escape(key)} is ", line) for key in mutation.keys]
    assert any(named), line


def test_at_least_two_hundred_at_every_level():
    assert len(MUTATIONS) >= 200
    everything = " ".join(mutation.change for mutation in MUTATIONS)
    assert [level for level in LEVELS if level not in everything] == []
