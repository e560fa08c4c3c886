"""A run trained on one data set is tested on another by one command, that of the guide."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml

from commands import write_yaml
from metalit.main import main
from miniature_benchmarks import write_cifar100, write_folders

ROOT = Path(__file__).parents[3]
OVERLAYS = [path for path in sorted((ROOT / "configs" / "data").glob("*.yaml")) if "ImageFolder" in path.read_text()]
SHORT = {"episodes_per_epoch": 4, "val_episodes": 2, "test_episodes": 2}
PAGE = ROOT / "docs" / "guide" / "image-benchmarks.md"


@pytest.mark.service
def test_the_command_of_the_guide(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_cifar100(tmp_path / "cifar", 4)
    write_folders(tmp_path / "CUB", "cub", 4, 16, "CUB_200_2011/images")
    network = {"class_path": "metalit.networks.Conv4", "init_args": {"channels": 4, "in_channels": 3, "image_size": 32}}
    config = {
        "model": {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": network}},
        "data": {
            "class_path": "metalit.data.CIFARFS",
            "init_args": {
                "root": "cifar",
                "queries": 1,
                "episodes_per_epoch": 4,
                "val_episodes": 2,
                "test_episodes": 2,
            },
        },
        "trainer": {"max_steps": 1, "accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1},
        "checkpoint": {"monitor": "val/accuracy", "mode": "max"},
    }
    main(["fit", "--config", write_yaml(tmp_path / "fit.yaml", config), "--run_dir", "RUN"])
    (command,) = re.findall(
        r"^\$ python train\.py (test .*--data metalit\.data\.CUB .*)$", PAGE.read_text(), re.MULTILINE
    )
    main(shlex.split(command.replace("configs/cifar_fs/protonet.yaml", "RUN/config.yaml")))
    setting = json.loads((tmp_path / "RUN-on-cub" / "results.json").read_text())["setting"]
    assert (setting["data"], setting["images_per_class"], setting["queries"]) == ("CUB", "4", 1)


@pytest.mark.service
@pytest.mark.parametrize("path", OVERLAYS, ids=lambda path: path.stem)
@pytest.mark.sample(3)
def test_data_of_other_domains(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    command = path.read_text().partition("\n")[0].removeprefix("# python train.py ")
    assert str(path.relative_to(ROOT)) in command
    with pytest.raises(SystemExit) as stop:
        main([*shlex.split(command), "--print_config"])
    assert stop.value.code == 0
    data = yaml.safe_load(capsys.readouterr().out)["data"]
    own = yaml.safe_load(path.read_text())["data"]
    assert data["class_path"] == own["class_path"]
    assert own["init_args"].items() <= data["init_args"].items()
