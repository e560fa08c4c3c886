"""The configurations in which nothing is trained: frozen features and a method that classifies them."""

import json
import shutil

import pytest
import torch

import metalit
from commands import write_yaml
from metalit.main import main
from miniature import write_photos
from miniature_benchmarks import write_cifar100
from test_configs import EXPERIMENTS, ROOT, TRAINED, name_of
from yaml_files import read_yaml

UNTRAINED = [path for path in EXPERIMENTS if path not in TRAINED]
# those of texts and molecules are run by tests/test_configs.py
OF_IMAGES = [path for path in UNTRAINED if path.parent.name in ("cifar_fs", "images")]
# as long an embedding as that of the real network, whose weights need a package
TINY = {
    "class_path": "metalit.networks.Backbone",
    "init_args": {
        "module": "torch.nn.Conv2d",
        "options": {"in_channels": 3, "out_channels": 1280, "kernel_size": 4},
        "weights": None,
        "sha256": None,
        "remove": [],
        "image_size": 8,
    },
}


# one that is fine-tuned, with a block to train
TUNED = {
    "class_path": "metalit.networks.Backbone",
    "init_args": {
        **TINY["init_args"],
        "module": "metalit.networks.Conv4",
        "options": {"channels": 2, "in_channels": 3, "image_size": 16, "batch_norm": "running"},
        "image_size": 16,
    },
}


def test_there_are_some():
    assert {path.parent.name for path in UNTRAINED} == {"cifar_fs", "clinc150", "fs_mol", "images", "texts"}


@pytest.mark.parametrize("path", OF_IMAGES, ids=name_of)
def test_runs_without_training_and_says_what_it_was_pretrained_on(path, tmp_path, capsys):
    torch.manual_seed(0)
    if path.parent.name == "images":
        write_photos(tmp_path, [f"class {number:02}" for number in range(20)])
    else:
        write_cifar100(tmp_path)
    data = {"root": str(tmp_path), "test_episodes": 3, "queries": 3, "eval_tasks_per_batch": 2}
    config, small = read_yaml(path), {"data": {"init_args": data}}
    has_features = "features" in config["data"]["init_args"]
    if has_features:
        data["features"] = TINY
    else:
        small["model"] = {"init_args": {"network": TUNED, "rate_episodes": 2, "steps": 2}}
    overlay = write_yaml(tmp_path / "miniature.yaml", small)
    quiet = ["--trainer.enable_progress_bar", "false"]
    main(["test", "--config", str(path), "--config", overlay, "--run_dir", str(tmp_path / "run"), *quiet])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    backbone = config["data"]["init_args"]["features"] if has_features else config["model"]["init_args"]["network"]
    assert results["setting"]["pretrained_on"] == backbone["init_args"]["pretrained_on"]
    assert "accuracy" in results["metrics"]
    assert has_features == bool(list((tmp_path / "metalit-cache").glob("features-test-*.npz")))


def test_a_run_without_training_recognises_photos(tmp_path):
    torch.manual_seed(0)
    names = [f"class {number:02}" for number in range(20)]
    photos = write_photos(tmp_path / "pictures", names)
    torch.save(torch.nn.Conv2d(3, 1280, 4).state_dict(), tmp_path / "weights.pt")
    features = {**TINY, "init_args": {**TINY["init_args"], "weights": str(tmp_path / "weights.pt")}}
    data = {"root": str(tmp_path / "pictures"), "features": features, "test_episodes": 3, "size": 8}
    overlay = write_yaml(tmp_path / "miniature.yaml", {"data": {"init_args": data}})
    run = tmp_path / "run"
    path = ROOT / "configs" / "images" / "lite0_protonet.yaml"
    main(["test", "--config", str(path), "--config", overlay, "--run_dir", str(run),
          "--trainer.enable_progress_bar", "false"])  # fmt: skip
    assert "verbose" not in read_yaml(run / "config.yaml")
    learned = tmp_path / "labelled"
    for name in names[:3]:
        (learned / name).mkdir(parents=True)
    for file in [photo for photo in photos if photo.parent.name in names[:3]]:
        shutil.copy(file, learned / file.parent.name)
    main(["predict", "--run_dir", str(run), "--support", str(learned), "--query", str(learned / names[0])])
    assert len((run / "predictions.csv").read_text().splitlines()) == 1 + 12
    with pytest.raises(FileNotFoundError, match="last"):
        metalit.load(run, "last")
