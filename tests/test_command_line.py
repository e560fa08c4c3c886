"""What the command line promises: one sentence and exit code 2 for a mistake, exact resume, options that count."""

import json

import pytest
import torch

from metalit.cli import main
from miniature import write_omniglot

QUICK = [
    "--trainer.logger=false", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false", "--trainer.num_sanity_val_steps=0",
]  # fmt: skip
SMALL = [
    "--data.episodes_per_epoch=20",
    "--data.tasks_per_batch=5",
    "--data.val_episodes=4",
    "--data.test_episodes=6",
]
SINUSOID = ["--config=configs/sinusoid/maml.yaml", "--model.engine.compile=false", *SMALL, *QUICK]


@pytest.fixture(autouse=True)
def _at_the_root(pytestconfig, monkeypatch):
    monkeypatch.chdir(pytestconfig.rootpath)


@pytest.fixture(scope="module")
def omniglot(tmp_path_factory):
    root = tmp_path_factory.mktemp("omniglot")
    splits = write_omniglot(root)
    return root, splits


def mistake(capsys, *args):
    """Run a command that must fail, and return its one line."""
    with pytest.raises(SystemExit) as stopped:
        main([str(arg) for arg in args])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert stopped.value.code == 2
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--model.inner_stepss=3"], ["model.inner_stepss", "did you mean model.inner_steps?"]),
        (["--data.shots=many"], ["data.shots", "many", "whole number"]),
        (["--data.shots=0"], ["data.shots is 0", "at least 1"]),
        (["--model.inner_lr=-1"], ["inner_lr is -1", "positive"]),
        (["--model=Foo"], ["Foo", "MAML"]),
        (["--config=nowhere.yaml"], ["nowhere.yaml"]),
        (["--ckpt_path=nowhere.ckpt"], ["nowhere.ckpt"]),
        (["--trainer.max_epoch=1"], ["max_epoch", "max_epochs"]),
    ],
)
def test_a_mistake_is_one_sentence(args, words, capsys, tmp_path):
    message = mistake(capsys, "fit", *SINUSOID, f"--run_dir={tmp_path}", *args)
    assert all(word in message for word in words)


def test_more_ways_than_classes_and_more_examples_than_images(capsys, tmp_path, omniglot):
    base = ["fit", "--config=configs/omniglot/maml.yaml", f"--data.root={omniglot[0]}", f"--data.splits={omniglot[1]}",
            f"--run_dir={tmp_path}", *SMALL, *QUICK]  # fmt: skip
    assert "ways is 500" in mistake(capsys, *base, "--data.ways=500")
    assert "20 examples" in mistake(capsys, *base, "--data.shots=10", "--data.queries=11")


def test_missing_corrupt_and_truncated_data(capsys, tmp_path, omniglot):
    (tmp_path / "images_background.zip").write_bytes(b"no zip at all")
    (tmp_path / "images_evaluation.zip").write_bytes(b"no zip at all")
    base = ["fit", "--config=configs/omniglot/maml.yaml", f"--run_dir={tmp_path / 'run'}", *SMALL, *QUICK]
    assert "images_background.zip" in mistake(
        capsys, *base, f"--data.root={tmp_path}", f"--data.splits={omniglot[1]}"
    )


def test_wrong_checkpoints(capsys, tmp_path):
    base = ["test", *SINUSOID, f"--run_dir={tmp_path}"]
    (tmp_path / "broken.ckpt").write_bytes(b"broken")
    assert "broken.ckpt" in mistake(capsys, *base, f"--ckpt_path={tmp_path / 'broken.ckpt'}")
    torch.save({"state_dict": {"network.other": torch.zeros(2)}}, tmp_path / "other.ckpt")
    message = mistake(capsys, *base, f"--ckpt_path={tmp_path / 'other.ckpt'}")
    assert "does not fit the model" in message
    assert "is missing" in message


def test_fit_resume_and_test_with_other_options(tmp_path):
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    main(["fit", *SINUSOID, f"--run_dir={straight}", "--trainer.max_steps=6"])
    main(["fit", *SINUSOID, f"--run_dir={halves}", "--trainer.max_steps=3"])
    main(["fit", *SINUSOID, f"--run_dir={halves}", "--trainer.max_steps=6", "--ckpt_path=last"])
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True) for folder in (straight, halves)
    )
    assert one["global_step"] == other["global_step"] == 6
    assert all(torch.equal(one["state_dict"][key], other["state_dict"][key]) for key in one["state_dict"])
    main(["test", *SINUSOID, f"--run_dir={straight}", "--ckpt_path=best", "--model.inner_steps=10"])
    results = json.loads((straight / "results.json").read_text())
    assert results["setting"]["inner_steps"] == 10
    assert len(results["by_step"]["mse"]) == 11
    assert results["episodes"] == 6
