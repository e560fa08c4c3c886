"""A run goes on with another number of processes, on the same stream of episodes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from commands import changed, maml, write_yaml
from metalit.data import Glyphs

ROOT = Path(__file__).parents[2]


def fit(config, folder, steps, devices):
    strategy = ["--trainer.strategy", "ddp"] if devices > 1 else []
    path = os.pathsep.join([str(ROOT / "src"), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, ROOT / "train.py", "fit", "--config", config, "--run_dir", folder, "--ckpt_path", "last",
         "--trainer.max_steps", str(steps), "--trainer.devices", str(devices), *strategy],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_every_episode_is_trained_on_once_over_1_2_and_1_processes(tmp_path):
    log = tmp_path / "log"
    log.mkdir()
    settings = changed(
        maml(),
        {
            "trainer.callbacks": [{"class_path": "episode_log.EpisodeLog", "init_args": {"folder": str(log)}}],
            "trainer.logger": False,
            "trainer.accelerator": "cpu",
            "trainer.max_steps": None,
            "data.init_args.episodes_per_epoch": 10,
        },
    )
    config = write_yaml(tmp_path / "c.yaml", settings)
    for steps, devices in ((3, 1), (7, 2), (9, 1)):  # 3 steps of 2 tasks, 4 of 4, 2 of 2
        fit(config, tmp_path / "run", steps, devices)
    seen = [line.split() for file in log.iterdir() for line in file.read_text().splitlines()]
    assert len(list(log.iterdir())) == 4
    sums = {int(index): float(value) for index, value in seen}
    assert sorted(int(index) for index, _ in seen) == list(range(26))
    stream = Glyphs(**settings["data"]["init_args"])
    for index, value in sums.items():
        x = stream.episodes("train", index).support.x
        assert value == pytest.approx(x.double().sum().item(), rel=1e-9)
