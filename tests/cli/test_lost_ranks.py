"""When a rank fails, its own error is what the user sees."""

import os
import subprocess
import sys
import time

import pytest
import torch.distributed as dist

from commands import changed, complaint, maml, write_yaml
from metalit.cli import lost_ranks
from metalit.cli.lost_ranks import LOST_RANK, end_with_other_rank, first_failure, is_lost_rank
from metalit.main import main

GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711"


def test_what_only_says_that_another_rank_is_gone():
    assert is_lost_rank(RuntimeError(GLOO))
    assert is_lost_rank(dist.DistBackendError("NCCL error"))
    assert not is_lost_rank(RuntimeError("a bug"))
    assert not is_lost_rank(ValueError("gloo/transport"))


def test_the_exit_code_is_that_of_the_rank_that_failed():
    codes = [("import time; time.sleep(60)", None), ("raise SystemExit(2)", 2)]
    processes = [subprocess.Popen([sys.executable, "-S", "-c", code]) for code, _ in codes]
    assert first_failure(processes) == 2
    processes[0].kill()
    processes[0].wait()


def test_a_rank_that_was_started_by_another_ends_in_one_line(capsys):
    start = time.monotonic()
    with pytest.raises(SystemExit) as stop:
        end_with_other_rank(None)
    assert stop.value.code == 1
    assert capsys.readouterr().err == LOST_RANK + "\n"
    assert time.monotonic() - start < lost_ranks.PATIENCE


def test_a_lost_rank_is_no_traceback(tmp_path, monkeypatch, capsys):
    def lose(*args, **kwargs):
        raise RuntimeError(GLOO)

    monkeypatch.setattr("metalit.algorithms.MAML.training_step", lose)
    config = write_yaml(tmp_path / "c.yaml", maml())
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])
    assert stop.value.code == 1
    assert capsys.readouterr().err.endswith(LOST_RANK + "\n")


def test_synchronised_batch_norm_is_refused(tmp_path, capsys):
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), {"trainer.sync_batchnorm": True}))
    said = complaint(capsys, lambda: main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")]))
    assert said.startswith("trainer.sync_batchnorm is True, expected false")


FAILING = """
import lightning as L

class Fails(L.Callback):
    def on_train_batch_start(self, trainer, *args):
        if trainer.global_rank == 1:
            raise ValueError("weights are 3, but must be 4")
"""


@pytest.mark.slow
def test_mistake_on_rank_1(tmp_path):
    (tmp_path / "failing.py").write_text(FAILING)
    changes = {
        "trainer.callbacks": [{"class_path": "failing.Fails"}],
        "trainer.accelerator": "cpu",
        "trainer.devices": 2,
        "data.init_args.tasks_per_batch": 1,
    }
    config = write_yaml(tmp_path / "c.yaml", changed(maml(), changes))
    done = subprocess.run(
        [sys.executable, "-m", "metalit", "fit", "--config", config, "--run_dir", "run"],
        cwd=tmp_path, env=os.environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: weights are 3, but must be 4" in done.stderr
    assert "Traceback" not in done.stderr
