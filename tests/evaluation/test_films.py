"""Films of policies: the trajectories of the test, filmed; where nothing renders, one line and nothing lost."""

import logging
import os
import re
import warnings

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from metalit.algorithms import RL2, MAMLPolicyGradient
from metalit.algorithms.reinforcement.rollouts import roll_out
from metalit.data import EnvironmentTasks
from metalit.environments import AntDirection, GymnasiumEnvironment, HalfCheetahVelocity, MetaWorld
from metalit.environments.filmed import Filmed
from metalit.evaluation import Figures, ResultsWriter
from metalit.evaluation.films import filmed
from metalit.networks import MLP, GaussianPolicy, RecurrentPolicy
from metalit.tasks.keyed_draws import KeyedDraws

gymnasium = pytest.importorskip("gymnasium", reason="needs metalit[rl], which is not installed")
from evaluation.sliding_dot import SlidingDot, colour, without_render_mode  # noqa: E402

HORIZON = 60  # more than the pictures of a film, so that some steps are left out


def dots(horizon=HORIZON, made_by=SlidingDot, workers=0, **settings):
    return GymnasiumEnvironment(made_by, {"goal": (-2.0, 2.0)}, settings=settings, horizon=horizon, workers=workers)


def maml(**settings):
    torch.manual_seed(0)
    return MAMLPolicyGradient(GaussianPolicy(MLP(1, [4], 1), actions=1), inner_lr=0.5, **settings)


def rl2():
    torch.manual_seed(0)
    return RL2(RecurrentPolicy(GaussianPolicy(nn.Linear(6, 1), actions=1), inputs=4, hidden=6), episodes=3)


def tasks(environment=None, **settings):
    sizes = {"shots": 3, "queries": 4, "test_episodes": 3, "eval_tasks_per_batch": 3}
    return EnvironmentTasks(dots() if environment is None else environment, **(sizes | settings))


def rolled_out(environment, kind=None):
    """Two trajectories of one task."""
    torch.manual_seed(0)
    sizes = environment.observation_size, environment.action_space.size
    policy = GaussianPolicy(nn.Linear(*sizes), actions=sizes[1])
    numbers = torch.full((1, environment.numbers_per_task), 0.7)
    draws = KeyedDraws(torch.tensor([5]), torch.float32)
    return roll_out(environment, policy, policy, environment.parameters(numbers), 2, draws)


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


def test_the_first_trajectory_is_filmed_and_none_changes():
    camera = Filmed(dots(), pictures=25)
    seen = rolled_out(camera)
    assert_same(seen, rolled_out(dots()))
    (take,) = camera.takes
    assert take.times == list(range(0, 61, 3))
    assert take.total == pytest.approx(seen.rewards[0, 0].sum().item(), rel=1e-5)
    assert not take.ended
    places = seen.observations[0, 0, :, 0].tolist()
    for time, picture in zip(take.times[:-1], take.pictures, strict=False):
        assert (picture == colour(time, places[time])).all()


def test_the_film_of_a_trajectory_that_ends_ends_with_it():
    environment = dots(limit=5.0)
    seen = rolled_out(camera := Filmed(environment, pictures=7))
    length = int(seen.mask[0, 0].sum())
    assert 1 < length < HORIZON
    assert length % camera.every != 0  # its end is filmed all the same
    (take,) = camera.takes
    assert take.ended
    assert take.times[-1] == length
    assert take.pictures[-1][0, 0, 0] == colour(length, 0)[0]
    assert take.total == pytest.approx(seen.rewards[0, 0].sum().item(), rel=1e-5)


@pytest.mark.parametrize("make", [maml, rl2])
def test_a_film_shows_the_trajectories_of_the_test(make, make_trainer):
    learner, data = make(), tasks(shots=1, queries=1)  # their mean is the one that is filmed
    make_trainer(Figures(films=0)).test(learner, data, verbose=False)
    tested = learner.last_evaluation.values["return"]
    for number in range(3):
        scene, _ = filmed(learner, data, data.make_stream("test")(number, 1))
        assert [take.total for take in scene.takes.values()] == pytest.approx(tested[number].tolist(), rel=1e-4)
    assert learner.data is data


def test_what_is_left_out_after_adaptation_changes_nothing():
    learner, data = maml(eval_inner_steps=2), tasks()
    learner.prepare(data)
    task = data.make_stream("test")(1, 1)
    scene, _ = filmed(learner, data, task)
    query = learner.experience(task, training=False).episode.query
    before, *_, after = scene.takes.values()
    places = query.x[0, 0, :, 0].tolist()
    assert (before.pictures[10] != after.pictures[10]).any()
    for time, picture in zip(after.times[:-1], after.pictures, strict=False):
        assert (picture == colour(time, places[time])).all()
    assert list(scene.takes) == ["before adaptation", "after 1 step", "after 2 steps"]
    assert scene.title.startswith("test task 1, goal ")


def test_a_test_writes_a_film_and_is_itself_unchanged(make_trainer, tmp_path):
    data = tasks()
    (plain,) = make_trainer(ResultsWriter(False), Figures(dpi=40, films=0)).test(maml(), data, verbose=False)
    episodes = (tmp_path / "episodes.csv").read_bytes()
    assert not (tmp_path / "film.gif").exists()
    learner, state = maml(), torch.get_rng_state()
    (shown,) = make_trainer(ResultsWriter(False), Figures(dpi=40)).test(learner, data, verbose=False)
    assert shown == plain
    assert (tmp_path / "episodes.csv").read_bytes() == episodes
    assert torch.equal(torch.get_rng_state(), state)
    with Image.open(tmp_path / "film.gif") as film:
        assert film.n_frames == 31  # every second step
        assert film.info["duration"] == 100
        assert film.info["loop"] == 0
        assert film.width == 2 * 240  # before and after
        assert (tmp_path / "film.gif").stat().st_size < 100_000
        reds = []
        for number in range(film.n_frames):
            film.seek(number)
            pixels = np.asarray(film.convert("RGB")).astype(int)
            reds.append([pixels[18 + 90, 120, 0], pixels[18 + 90, 360, 0]])
    expected = np.array([40 + 4 * number for number in range(31)])
    assert np.abs(np.array(reds) - expected[:, None]).max() < 12  # of a palette
    with Image.open(tmp_path / "frames.png") as strip:
        assert np.asarray(strip.convert("RGB")).std() > 20


class Faulty(SlidingDot):
    """Renders what is no picture."""

    def render(self):
        return "a picture"


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        (lambda: dots(fault="raises"), r"OSError: libGL.so: cannot open shared object file\)\. MuJoCo"),
        (lambda: dots(fault="nothing"), "TypeError: render returned object"),
        (lambda: dots(made_by=Faulty), "TypeError: render returned <U9"),
        (lambda: dots(made_by=without_render_mode), "TypeError: .* keyword argument 'render_mode'"),
    ],
    ids=["raises", "nothing", "no picture", "no mode"],
)
def test_where_nothing_renders_one_line_says_why(environment, reason, make_trainer, tmp_path, caplog):
    learner, data = maml(), tasks(environment())
    (plain,) = make_trainer(Figures(films=0)).test(learner, data, verbose=False)
    with caplog.at_level(logging.INFO):
        (shown,) = make_trainer(ResultsWriter(False), Figures(dpi=40)).test(learner, data, verbose=False)
    assert shown == plain
    (line,) = [record.getMessage() for record in caplog.records if "No film" in record.getMessage()]
    assert "\n" not in line
    assert re.search(reason, line), line
    assert {path.name for path in tmp_path.iterdir()} == {"adaptation_curve.png", "results.json", "episodes.csv"}
    assert learner.data is data


def test_tensorboard_gets_every_figure_as_it_is(make_trainer, tmp_path):
    logger = TensorBoardLogger(tmp_path, name="", version="events")
    make_trainer(Figures(dpi=40), logger=logger).test(maml(), tasks(), verbose=False)
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    pictures = {path.stem: path for path in tmp_path.iterdir() if path.suffix in (".png", ".gif")}
    assert set(pictures) == {"film", "frames", "adaptation_curve"}
    assert set(events.Tags()["images"]) == {f"figures/{name}" for name in pictures}
    for name, path in pictures.items():
        (sent,) = events.Images(f"figures/{name}")
        assert sent.encoded_image_string == path.read_bytes()
        with Image.open(path) as picture:
            assert (sent.width, sent.height) == picture.size


@pytest.mark.slow  # starts a process
def test_a_film_needs_no_workers():
    environment = dots(workers=1)
    seen = rolled_out(environment)
    assert_same(seen, rolled_out(Filmed(environment, pictures=10)))
    environment.close()


@pytest.fixture
def mujoco(monkeypatch):
    """Where MuJoCo renders; elsewhere the test is skipped, with the reason."""
    pytest.importorskip("mujoco", reason="needs metalit[rl], which is not installed")
    if "MUJOCO_GL" not in os.environ:
        monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        robot = gymnasium.make("HalfCheetah-v5", render_mode="rgb_array", width=8, height=8)
        robot.reset(seed=0)
        try:
            robot.render()
        except Exception as error:
            pytest.skip(f"MuJoCo does not render here: {error}")
        finally:
            robot.close()


@pytest.mark.parametrize(
    "kind",
    [HalfCheetahVelocity, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (AntDirection, MetaWorld))],
    ids=lambda kind: kind.__name__,
)
def test_robots_are_filmed_and_move_as_without_a_film(kind, mujoco):
    if kind is MetaWorld:
        pytest.importorskip("metaworld", reason="needs metalit[rl], which is not installed")
    environment = kind(horizon=6)
    camera = Filmed(environment, pictures=2)
    assert_same(rolled_out(environment), rolled_out(camera))
    first, *_, last = camera.takes[0].pictures
    assert first.shape == (180, 240, 3)
    assert first.std() > 20  # no empty picture
    assert (first != last).any()
    camera.close()
