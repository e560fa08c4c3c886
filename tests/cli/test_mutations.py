"""Hundreds of broken configurations: each is one line that names the option, and exit code 2.

They are a sample of all mutations of each experiment (see mutations.py), which another experiment does not change.
Experiments with images in files are run on miniatures of them in the real format.
"""

import re
import zlib
from collections import defaultdict
from copy import deepcopy
from functools import cache
from pathlib import Path
from urllib.error import URLError

import pytest

from commands import complaint, write_yaml
from metalit.main import main
from miniature import write_chestx, write_isic, write_omniglot, write_photos
from miniature_benchmarks import write_cifar100, write_learn2learn_caches
from mutations import MORE, broken, whole
from yaml_files import read_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
# folders of configs or single ones, and what writes the files that their data sets need
FILES = {
    "glyphs": None,
    "sinusoid": None,
    "omniglot": write_omniglot,
    "cifar_fs": write_cifar100,
    "fc100": write_cifar100,
    "mini_imagenet": write_learn2learn_caches,
    "images": lambda root: write_photos(root, [f"class{number}" for number in range(20)], photos=8),
    "data": lambda root: write_photos(root, [f"class{number}" for number in range(6)], photos=8),
    "isic": write_isic,
    "chestx": write_chestx,
}
EXPERIMENTS = [
    path
    for path in sorted(CONFIGS.rglob("*.yaml"))
    if path.parent.name in FILES
    # of the data sets in configs/data, those of images
    and (
        read_yaml(path)["data"]["class_path"] == "metalit.data.ImageFolder"
        if path.parent.name == "data"
        else "class_path" in read_yaml(path).get("model", {})
    )
]
TESTED_WITH = CONFIGS / "mini_imagenet" / "protonet.yaml"  # the run that a data set of configs/data tests
ROOT_OF = "ROOT_OF_"  # stands for the folder of a miniature, known when tests run
# more settings of people's own pictures
PICTURES = {
    "fit": "crop", "form": "auto", "split_seed": 0, "split_by": "class", "on_bad_file": "error",
    "small_classes": "error", "store": "memory", "cache_dir": "cache", "decoders": 1,
}  # fmt: skip
# training classes of the miniatures (Omniglot's with rotations), which some learners must be told
TRAINING_CLASSES = {"omniglot": 64, "cifar_fs": 64, "fc100": 60, "mini_imagenet": 64}
# backbones that need no package: the frozen one embeds in as many numbers as that of the configs
BACKBONES = {
    "features": {
        "class_path": "metalit.networks.Backbone",
        "init_args": {
            "module": "torch.nn.Conv2d",
            "options": {"in_channels": 3, "out_channels": 1280, "kernel_size": 4},
            "image_size": 8,
        },
    },
    "network": {
        "class_path": "metalit.networks.Backbone",
        "init_args": {
            "module": "metalit.networks.Conv4",
            "options": {"channels": 2, "in_channels": 3, "image_size": 16, "batch_norm": "running"},
            "image_size": 16,
            "trained": 1,
        },
    },
}
OF_EACH = {"key": 2}  # of each experiment; 1 of the other kinds

LEVELS = (
    "trainer.callbacks", "trainer.max_steps", "model.optimizer", "model.lr_scheduler", "model.engine",
    "model.network.body", "data.", "checkpoint", "run_dir", "threads", "seed_everything", "ckpt_path",
)  # fmt: skip


def is_tested_only(path):
    return path.parent.name == "data" or path.read_text().startswith("# python train.py test ")


def in_miniature(path):
    folder = path.parent.name
    settings = deepcopy(read_yaml(TESTED_WITH)) | read_yaml(path) if folder == "data" else read_yaml(path)
    more = {"data.init_args": MORE["data.init_args"]}
    if folder == "omniglot":
        where = "data.init_args.images.init_args" if "images" in settings["data"]["init_args"] else "data.init_args"
        more[where] = more.get(where, {}) | {
            "root": f"{ROOT_OF}omniglot",
            "splits": f"{ROOT_OF}omniglot/miniature-split",
        }
    elif FILES[folder]:
        own = PICTURES if folder in ("images", "data") else {}
        name = path.stem if path.stem in FILES else folder
        table = Path(settings["data"]["init_args"].get("root", ""))
        root = f"{ROOT_OF}{name}/{table.name}" if table.suffix == ".csv" else f"{ROOT_OF}{name}"
        more["data.init_args"] = more["data.init_args"] | {"root": root} | own
    if "classes" in settings["model"]["init_args"]:
        more["model.init_args"] = MORE["model.init_args"] | {"classes": TRAINING_CLASSES[folder]}
    if is_tested_only(path):
        # a test resumes nothing and stops nothing early
        more |= {"": {"threads": 1, "run_dir": "run"}, "trainer": MORE["trainer"] | {"callbacks": []}}
    for place in (settings["model"]["init_args"], settings["data"]["init_args"]):
        for name in {"network", "features"} & place.keys():
            if place[name]["class_path"] == BACKBONES[name]["class_path"]:
                place[name] = BACKBONES[name]
    return whole(settings, more)


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
def root_of(tmp_path_factory):
    """A function that returns the miniature of a folder of configs; and no network to fetch anything from."""

    @cache
    def written(folder):
        root = tmp_path_factory.mktemp(folder)
        FILES[folder](root)
        return str(root)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("urllib.request.urlopen", unreachable)
        yield written


def unreachable(*args, **kwargs):
    raise URLError("no network")


@pytest.fixture
def run(root_of, tmp_path, monkeypatch):
    """A function that trains from settings, or tests what is not trained."""
    monkeypatch.chdir(tmp_path)

    def run_command(path, settings):
        config = Path(write_yaml(tmp_path / "c.yaml", settings))
        config.write_text(re.sub(rf"{ROOT_OF}(\w+)", lambda found: root_of(found[1]), config.read_text()))
        main(["test" if is_tested_only(path) else "fit", "--config", "c.yaml"])

    return run_command


@pytest.mark.slow
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_whole_configuration_is_right(path, run):
    run(path, in_miniature(path))


@pytest.mark.parametrize(
    "mutation", MUTATIONS, ids=[f"{mutation.experiment}: {mutation.change}" for mutation in MUTATIONS]
)
@pytest.mark.sample(24)
def test_broken_configuration(mutation, run, capsys):
    line = complaint(capsys, lambda: run(CONFIGS / mutation.experiment, mutation.make()))
    named = [re.search(rf"^{re.escape(key)}: |(?<![\w.]){re.escape(key)} is ", line) for key in mutation.keys]
    assert any(named), line


def test_at_least_two_hundred_at_every_level():
    assert len(MUTATIONS) >= 200
    everything = " ".join(mutation.change for mutation in MUTATIONS)
    assert [level for level in LEVELS if level not in everything] == []
