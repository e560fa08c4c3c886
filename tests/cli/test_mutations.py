"""Two hundred broken configurations: each is one line that names the option, and exit code 2.

They are a sample, by a fixed seed, of all mutations of all experiments (see mutations.py).
"""

import random
import re
from pathlib import Path
from urllib.error import URLError

import pytest
import yaml

from commands import complaint, write_yaml
from metalit.cli import main
from miniature import write_omniglot
from mutations import MORE, broken, whole

CONFIGS = Path(__file__).parents[2] / "configs"
EXPERIMENTS = [
    path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if "class_path" in yaml.safe_load(path.read_text()).get("model", {})
]
OMNIGLOT = {
    "root": "OMNIGLOT_ROOT",
    "splits": "OMNIGLOT_SPLITS",
}  # where the miniature is, known when tests run
OMNIGLOT_CLASSES = 64  # of the miniature's training split, with rotations
SAMPLE = {"key": 70, "type": 50, "range": 45, "path": 12, "class": 23}

LEVELS = (
    "trainer.callbacks", "trainer.max_steps", "model.optimizer", "model.lr_scheduler", "model.engine",
    "model.network.body", "data.", "checkpoint", "run_dir", "threads", "seed_everything", "ckpt_path",
)  # fmt: skip


def in_miniature(path):
    settings = yaml.safe_load(path.read_text())
    more = {"data.init_args": MORE["data.init_args"]}
    if path.parent.name == "omniglot":
        where = (
            "data.init_args.images.init_args"
            if "images" in settings["data"]["init_args"]
            else "data.init_args"
        )
        more[where] = more.get(where, {}) | OMNIGLOT
    if "classes" in settings["model"]["init_args"]:
        more["model.init_args"] = MORE["model.init_args"] | {"classes": OMNIGLOT_CLASSES}
    return whole(path, more)


def sample():
    name = {path: str(path.relative_to(CONFIGS)) for path in EXPERIMENTS}
    mutations = [mutation for path in EXPERIMENTS for mutation in broken(name[path], in_miniature(path))]
    chance = random.Random(1)
    # a misspelt key of each experiment, so that none is left out
    chosen = [chance.choice([each for each in mutations if (each.experiment, each.kind) == (one, "key")])
              for one in name.values()]  # fmt: skip
    # and one of each level of a configuration
    for level in LEVELS:
        if not any(level in each.change for each in chosen):
            chosen.append(chance.choice([each for each in mutations if level in each.change]))
    for kind, count in SAMPLE.items():
        there = sum(each.kind == kind for each in chosen)
        others = [each for each in mutations if each.kind == kind and each not in chosen]
        chosen += chance.sample(others, count - there)
    return chosen


MUTATIONS = sample()
FEW = 4  # one of so many is tried in the default suite, the others with the slow tests


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


def by_default(number, mutation):
    return mutation if number % FEW == 0 else pytest.param(mutation, marks=pytest.mark.slow)


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_whole_configuration_is_right(path, fit):
    fit(in_miniature(path))


@pytest.mark.parametrize(
    "mutation",
    [by_default(number, mutation) for number, mutation in enumerate(MUTATIONS)],
    ids=[f"{mutation.experiment}: {mutation.change}" for mutation in MUTATIONS],
)
def test_broken_configuration(mutation, fit, capsys):
    line = complaint(capsys, lambda: fit(mutation.settings))
    named = [re.search(rf"^{re.escape(key)}: |(?<![\w.]){re.escape(key)} is ", line) for key in mutation.keys]
    assert any(named), line


def test_two_hundred_of_all_kinds_and_experiments():
    assert len(MUTATIONS) == 200
    assert {mutation.experiment for mutation in MUTATIONS} == {
        str(path.relative_to(CONFIGS)) for path in EXPERIMENTS
    }
    everything = " ".join(mutation.change for mutation in MUTATIONS)
    assert [level for level in LEVELS if level not in everything] == []
