"""A policy from the command line: what a run writes and shows, and what is refused."""

import json

import lightning as L
import pytest
from PIL import Image

from commands import complaint, write_yaml
from metalit import load
from metalit.evaluation import EpisodeProgressBar
from metalit.main import main
from policies import POLICIES

MLP = {"class_path": "metalit.networks.MLP", "init_args": {"inputs": 2, "hidden": [8], "outputs": 2}}
SETTINGS = {
    "model": {
        "class_path": "metalit.algorithms.MAMLPolicyGradient",
        "init_args": {
            "network": {"class_path": "metalit.networks.GaussianPolicy", "init_args": {"network": MLP}},
            "eval_inner_steps": 2,
        },
    },
    "data": {
        "class_path": "metalit.data.EnvironmentTasks",
        "init_args": {
            "environment": {"class_path": "metalit.environments.Navigation", "init_args": {"horizon": 5}},
            "shots": 3,
            "queries": 3,
            "tasks_per_batch": 2,
            "episodes_per_epoch": 4,
            "val_episodes": 3,
            "test_episodes": 3,
        },
    },
    "trainer": {"max_steps": 2, "log_every_n_steps": 1, "enable_model_summary": False, "accelerator": "cpu"},
    "checkpoint": {"monitor": "val/return", "mode": "max"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a trained run, and its config."""
    folder = tmp_path_factory.mktemp("policy")
    config = write_yaml(folder / "policy.yaml", SETTINGS)
    main(["fit", "--config", config, "--run_dir", str(folder / "run")])
    return folder / "run", config


def test_a_run_has_curves_returns_by_step_and_trajectories(run, capsys):
    folder, config = run
    assert (folder / "learning_curves.png").exists()
    main(["test", "--config", config, "--run_dir", str(folder), "--ckpt_path", "best"])
    results = json.loads((folder / "results.json").read_text())
    assert [stage["step"] for stage in results["by_step"]["return"]] == [0, 1, 2]
    assert results["metrics"]["return"]["mean"] < 0
    assert results["setting"]["surrogate"] == "low_variance"
    assert (folder / "trajectories.png").exists()
    assert (folder / "adaptation_curve.png").exists()
    assert "return before adaptation" in capsys.readouterr().out


def test_figures_of_the_users_take_the_place_of_the_usual_ones(run):
    folder, config = run
    coarse = ["--trainer.callbacks=metalit.evaluation.Figures", "--trainer.callbacks.dpi=20"]
    main(["test", "--config", config, "--run_dir", str(folder), "--ckpt_path", "best", *coarse])
    with Image.open(folder / "trajectories.png") as picture:
        assert picture.width < 300


def test_the_bar_shows_returns_and_steps_of_the_environment(capsys, tmp_path):
    case = POLICIES["MAMLPolicyGradient"]
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}
    bar = EpisodeProgressBar(line_seconds=1e-6)
    trainer = L.Trainer(
        max_steps=2, inference_mode=False, log_every_n_steps=1, callbacks=[bar], default_root_dir=tmp_path, **quiet
    )
    trainer.fit(case.make(), case.data())
    assert "return -" in (out := capsys.readouterr().out)
    assert "steps/s " in out
    assert "episodes/s" not in out


def test_steps_are_those_of_all_trajectories(run):
    learner, data = load(run[0])
    learner.prepare(data)
    learner.gathered(data.episodes("train", 0, 2))
    assert learner.steps_taken == 2 * (3 + 3) * 5


def test_loading_a_run_gives_a_learner_that_acts(run):
    learner, data = load(run[0])
    learner.prepare(data)
    returns = learner.experience(data.episodes("test", 0, 2), training=False).returns
    assert returns.shape == (2, 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["predict", "--ckpt_path", "best"], "MAMLPolicyGradient acts in environments"),
        (["predict", "--support", "SOME", "--query", "SOME"], "EnvironmentTasks"),
        (["export", "--support", "SOME", "--to", "model.pt2"], "EnvironmentTasks"),
    ],
    ids=["predict", "predict --support", "export"],
)
def test_there_is_nothing_to_predict(words, message, run, capsys, tmp_path):
    (tmp_path / "class").mkdir()
    words = [str(tmp_path) if word == "SOME" else word for word in words]
    config = [] if "--support" in words else ["--config", run[1]]
    said = complaint(capsys, lambda: main([*words, *config, "--run_dir", str(run[0])]))
    assert message in said


def test_a_learner_of_examples_is_refused_environments_and_the_reverse(capsys, tmp_path):
    sinusoid = SETTINGS | {"data": {"class_path": "metalit.data.Sinusoid"}}
    config = write_yaml(tmp_path / "policy.yaml", sinusoid)
    assert "EnvironmentTasks" in complaint(
        capsys, lambda: main(["fit", "--config", config, "--run_dir", str(tmp_path / "run")])
    )
