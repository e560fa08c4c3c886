"""Every configuration is found, says what it is for, and runs on miniature data in the real format."""

import inspect
import json
import shlex
from pathlib import Path

import pytest

import metalit.algorithms
from commands import read_options, write_yaml
from graph_files import molecules, write_json_lines
from metalit.data.complexes.synthetic import make_synthetic
from metalit.main import main
from miniature import write_omniglot, write_photos
from miniature_benchmarks import write_cifar100, write_learn2learn_caches
from miniature_molecules import write_fs_mol
from miniature_tables import columns_of_tasks, write_table
from miniature_texts import (
    rows_of_intents,
    write_banking77,
    write_bao,
    write_clinc150,
    write_csv,
    write_language_model,
    write_static_vectors,
)
from yaml_files import read_yaml

ROOT = Path(__file__).parents[1]
NOT_OF_A_RUN = ("cluster", "sweep", "data")  # have tests of their own
FILES = sorted(path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in NOT_OF_A_RUN)
OVERLAYS = [path for path in FILES if "class_path" not in read_yaml(path).get("model", {})]
EXPERIMENTS = [path for path in FILES if path not in OVERLAYS]
# nothing is trained in the others: they begin with their test, and tests/test_untrained_configs.py runs them
TRAINED = [path for path in EXPERIMENTS if path.read_text().startswith("# python train.py fit ")]
NO_IMAGES = ("clinc150", "fs_mol", "texts")
UNTRAINED = [path for path in EXPERIMENTS if path not in TRAINED and path.parent.name in NO_IMAGES]
COMPILED = "sinusoid/maml.yaml"  # the one that stays compiled, by a backend that needs no C++ compiler
LARGE_IS_GOOD = ("accuracy", "delta_auprc", "pearson", "return")  # metrics by which a checkpoint is chosen
TINY_LENGTH = 8  # of the tiny language model's embeddings
LEAST_EPISODES = {"EnvironmentTasks": 40}  # 600 of others; the papers' number of goals, each with many trajectories
TRAINING_CLASSES = 64  # of the miniature Omniglot, and of the real CIFAR-FS
MINIATURE = {
    "channels": 4,
    "tasks_per_batch": 2,
    "eval_tasks_per_batch": 2,
    "episodes_per_epoch": 4,
    "val_episodes": 2,
    "test_episodes": 2,
    "queries": 3,
    "classes": 20,
    "eval_classes": 5,
    "name_or_path": "TINY",  # of a language model; the folder of a tiny one takes its place
    "path": "TINY",  # of static vectors, likewise
    "max_steps": 2,
    "limit_val_batches": 1,
    "engine": {"compile": False},
}


def name_of(path):
    return str(path.relative_to(ROOT / "configs"))


def commands(path):
    """Return the arguments of the commands in a file's first lines, those of the first line first."""
    head = [line[2:] for line in path.read_text().splitlines() if line.startswith("# python train.py ")]
    return [shlex.split(line.removeprefix("python train.py ")) for line in head]


def in_miniature(settings):
    """Return an overlay that makes an experiment small: only what it changes, at the same places."""
    small = {}
    for key, value in settings.items():
        if key in MINIATURE:
            # a list has a number for each block
            small[key] = [MINIATURE[key]] * len(value) if isinstance(value, list) else MINIATURE[key]
        elif isinstance(value, dict) and (inner := in_miniature(value)):
            small[key] = inner
    return small


@pytest.fixture(scope="session")
def omniglot(tmp_path_factory):
    """Settings of a miniature Omniglot."""
    root = tmp_path_factory.mktemp("omniglot")
    return {"root": str(root), "splits": str(write_omniglot(root))}


@pytest.fixture(scope="session")
def cifar100(tmp_path_factory):
    """Settings of CIFAR-100 in miniature: its official files."""
    root = tmp_path_factory.mktemp("cifar100")
    write_cifar100(root)
    return {"root": str(root)}


@pytest.fixture(scope="session")
def mini_imagenet(tmp_path_factory):
    """Settings of miniImageNet in miniature: learn2learn's caches."""
    root = tmp_path_factory.mktemp("mini_imagenet")
    write_learn2learn_caches(root)
    return {"root": str(root)}


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Settings of 20 classes of photos."""
    root = tmp_path_factory.mktemp("photos")
    write_photos(root, [f"class{number}" for number in range(20)], photos=10)
    return {"root": str(root), "decoders": 1}


@pytest.fixture(scope="session")
def clinc150(tmp_path_factory):
    """Settings of CLINC150 in miniature."""
    return {"root": str(write_clinc150(tmp_path_factory.mktemp("clinc150"), 70, 12)), "splits": "seed"}


@pytest.fixture(scope="session")
def banking77(tmp_path_factory):
    """Settings of Banking77 in miniature."""
    return {"root": str(write_banking77(tmp_path_factory.mktemp("banking77"), 70, 12)), "splits": "seed"}


@pytest.fixture(scope="session")
def bao(tmp_path_factory):
    """Settings of FewRel and HuffPost in miniature: the files of Bao et al."""
    return {"root": str(write_bao(tmp_path_factory.mktemp("bao"), texts=10))}


@pytest.fixture(scope="session")
def language_model(tmp_path_factory):
    """The folder of a tiny language model."""
    pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")
    return str(write_language_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="session")
def static_vectors(tmp_path_factory):
    """The folder of tiny static vectors with their tokenizer."""
    pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")
    return str(write_static_vectors(tmp_path_factory.mktemp("vectors")))


@pytest.fixture(scope="session")
def intents(tmp_path_factory):
    """Settings of a table of 24 intents."""
    path = tmp_path_factory.mktemp("intents") / "intents.csv"
    names = [f"{verb} {noun}" for verb in ("freeze", "order", "close", "sell") for noun in "abcdef"]
    write_csv(path, rows_of_intents(names, 20))
    return {"root": str(path)}


@pytest.fixture(scope="session")
def complexes(tmp_path_factory):
    """Settings of a tiny synthetic set of complexes."""
    return {"file": str(make_synthetic(tmp_path_factory.mktemp("complexes"), "tiny"))}


@pytest.fixture(scope="session")
def fs_mol(tmp_path_factory):
    """Settings of FS-Mol in miniature."""
    return {"root": str(write_fs_mol(tmp_path_factory.mktemp("fs_mol") / "data")), "train_shots": 16}


@pytest.fixture(scope="session")
def own_table(tmp_path_factory):
    """Settings of a table of 12 tasks."""
    columns = columns_of_tasks(rows=16)
    columns["target"] = columns.pop("y")
    return {"file": str(write_table(tmp_path_factory.mktemp("tables") / "my.csv", columns))}


@pytest.fixture(scope="session")
def graphs(tmp_path_factory):
    """Settings of a file of graphs, whose targets 0 and 1 are numbers or classes."""
    rows = [{**row, "target": int(row["target"] > 0)} for row in molecules(8, 24)]
    return {"file": str(write_json_lines(tmp_path_factory.mktemp("graphs") / "a.jsonl", rows))}


FIXTURES = {
    "TaskGraphs": "graphs",
    "MetaScore": "complexes",
    "FSMol": "fs_mol",
    "TaskTable": "own_table",
    "CLINC150": "clinc150",
    "Banking77": "banking77",
    "FewRel": "bao",
    "HuffPost": "bao",
    "Omniglot": "omniglot",
    "CIFARFS": "cifar100",
    "FC100": "cifar100",
    "MiniImageNet": "mini_imagenet",
    "ImageFolder": "photos",
    "TextClasses": "intents",
}


@pytest.fixture
def run(request, tmp_path):
    """A function that runs a command of an experiment in miniature, and returns its run folder."""

    def run_command(command, files, *args):
        if any("metalit[rl]" in path.read_text() for path in files):
            pytest.importorskip("mujoco", reason="needs metalit[rl], which is not installed")
        merged = [read_yaml(path) for path in files]
        small = {}
        for settings in merged:
            for key, value in in_miniature(settings).items():
                small[key] = {**small.get(key, {}), **value} if isinstance(value, dict) else value
        if fixture := FIXTURES.get(merged[0]["data"]["class_path"].rpartition(".")[2]):
            small["data"]["init_args"].update(request.getfixturevalue(fixture))
            if "classes" in (learner := small.get("model", {}).get("init_args", {})):
                learner["classes"] = TRAINING_CLASSES
        elif images := merged[0]["data"]["init_args"].get("images"):  # a data set made of another
            small["data"]["init_args"]["images"] = {**images, "init_args": request.getfixturevalue("omniglot")}
        if files[0].parent.name == "half_cheetah":
            few = {"shots": 2, "environment": {"init_args": {"horizon": 20}}}
            small["data"]["init_args"].update(few)
        if name_of(files[0]) == COMPILED:
            small["model"]["init_args"]["engine"] = {"compile": True, "compile_backend": "aot_eager"}
        if "PretrainedText" in str(merged[0]["data"]["init_args"].get("features")):
            model = small.setdefault("model", {}).setdefault("init_args", {})
            model["network"] = {**merged[0]["model"]["init_args"]["network"], "init_args": {"inputs": TINY_LENGTH}}
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
        small.setdefault("trainer", {}).update(quiet)
        if MINIATURE["name_or_path"] in (text := json.dumps(small)):
            network = small.get("model", {}).get("init_args", {}).get("network", {}).get("init_args", {})
            static = "path" in network  # vectors have the tokenizer of their folder
            folder = request.getfixturevalue("static_vectors" if static else "language_model")
            small = json.loads(text.replace(MINIATURE["name_or_path"], folder))
        overlay = write_yaml(tmp_path / "miniature.yaml", small)
        configs = [part for path in files for part in ("--config", str(path))]
        main([command, *configs, "--config", overlay, "--run_dir", str(tmp_path / "run"), *args])
        return tmp_path / "run"

    return run_command


@pytest.mark.parametrize("path", TRAINED, ids=name_of)
@pytest.mark.sample(10)
def test_experiment_runs(path, run):
    folder = run("fit", [path])
    files = {file.name for file in (folder / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "last.ckpt", "previous.ckpt"}
    run("test", [path], "--ckpt_path", "best")
    results = json.loads((folder / "results.json").read_text())
    monitored = read_yaml(path)["checkpoint"]["monitor"].removeprefix("val/")
    assert monitored in results["metrics"]
    assert results["checkpoint"] == str(folder / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize("path", UNTRAINED, ids=name_of)
def test_experiment_without_training_runs(path, run):
    results = json.loads((run("test", [path]) / "results.json").read_text())
    if "pretrained_on" in path.read_text():
        assert results["setting"]["pretrained_on"].startswith("1.17 billion")
    assert "accuracy" in results["metrics"]


@pytest.mark.parametrize("path", OVERLAYS, ids=name_of)
@pytest.mark.slow
def test_overlay_runs(path, run):
    if read_yaml(path)["trainer"].get("accelerator") == "gpu":
        pytest.skip("needs a GPU; its command is parsed by the tests below")
    base = next(file for file in EXPERIMENTS if f"configs/{name_of(file)}" in commands(path)[0])
    assert (run("fit", [base, path]) / "checkpoints" / "best.ckpt").exists()


def holds(options, wanted):
    if isinstance(wanted, list):
        return len(options) == len(wanted) and all(map(holds, options, wanted))
    if not isinstance(wanted, dict):
        return options == wanted
    return all(holds(options[key], value) for key, value in wanted.items())


@pytest.mark.parametrize("path", FILES, ids=name_of)
@pytest.mark.sample(10)
def test_begins_with_a_command_that_is_right(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    first, *more = commands(path)
    wanted = "test" if path in EXPERIMENTS and path not in TRAINED else "fit"
    assert path.read_text().startswith(f"# python train.py {wanted} --config configs/")
    assert f"configs/{name_of(path)}" in first
    options = read_options(monkeypatch, first)
    for key, value in read_yaml(path)["trainer"].items():
        assert holds(options.trainer[key], value)
    for command in more:
        assert f"configs/{name_of(path)}" in command
        read_options(monkeypatch, command)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_says_what_is_to_be_expected(path):
    head = path.read_text().partition("\nseed_everything")[0]
    assert "\n# Target: " in head


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_says_how_it_is_tested_and_is_reproducible(path):
    assert any(command[0] == "test" for command in commands(path))
    settings = read_yaml(path)
    assert settings["seed_everything"] == 0
    data = settings["data"]["init_args"]
    least = LEAST_EPISODES.get(settings["data"]["class_path"].rpartition(".")[2], 600)
    # of given tasks it is their number that decides, in so many divisions
    assert data.get("test_episodes", 0) >= least or data.get("test_draws", 0) >= 10
    if path in TRAINED:
        checkpoint = settings["checkpoint"]
        assert checkpoint["monitor"].startswith("val/")
        assert checkpoint["mode"] == ("max" if checkpoint["monitor"].endswith(LARGE_IS_GOOD) else "min")


def test_every_algorithm_has_an_experiment():
    used = {read_yaml(path)["model"]["class_path"] for path in EXPERIMENTS}
    public = {
        f"metalit.algorithms.{name}"
        for name in metalit.algorithms.__all__
        if not inspect.isabstract(getattr(metalit.algorithms, name))
    }
    assert public == used


def test_overlays_are_told_from_experiments():
    assert {path.parent.name for path in OVERLAYS} == {"trainer"}
    assert len(EXPERIMENTS) + len(OVERLAYS) == len(FILES) > 0
