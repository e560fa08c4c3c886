"""A job that is started again after its training has ended by itself tests, and trains no further."""

import json
import subprocess

import pytest
import torch

from commands import changed, protonet, write_yaml
from metalit.cluster.base import read_job
from metalit.commands.manage import states
from metalit.main import main

STOPPING = {
    "class_path": "lightning.pytorch.callbacks.EarlyStopping",
    "init_args": {"monitor": "val/loss", "patience": 1, "min_delta": 100.0},  # nothing is such an improvement
}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_early_stopped_training_that_is_queued_again_while_it_is_tested(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    changes = {"trainer.accelerator": "cpu", "trainer.max_steps": 400, "trainer.callbacks": [STOPPING]}
    write_yaml(tmp_path / "c.yaml", changed(protonet(), changes))
    main(["submit", "--cluster", "Local", "--test", "fit", "--config", "c.yaml", "--run_dir", "run"])
    job = read_job(tmp_path / "run")
    main(["logs", "run", "--follow"])
    assert [state.word for state in states(job)] == ["COMPLETED"], job.tasks[0].log.read_text()
    last, results = (tmp_path / "run" / name for name in ("checkpoints/last.ckpt", "results.json"))
    step = torch.load(last, weights_only=True)["global_step"]
    assert step < 400
    for _ in range(2):  # the script, as SLURM starts it again
        results.unlink()
        done = subprocess.run(["bash", tmp_path / "run" / "job.sh", "-"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert torch.load(last, weights_only=True)["global_step"] == step
        assert json.loads(results.read_text())["checkpoint"].endswith("best.ckpt")
