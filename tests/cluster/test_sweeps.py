"""Files of sweeps: the points they describe, and what is wrong with them."""

import shlex
from pathlib import Path

import pytest

from commands import maml, read_options, write_yaml
from metalit.commands.sweeps import Point, command_of, read_sweep

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "sweep").glob("*.yaml"))


@pytest.fixture
def points(tmp_path):
    """A function that returns the points of a sweep."""

    def read(**sweep):
        write_yaml(tmp_path / "s.yaml", sweep)
        return read_sweep(tmp_path / "s.yaml")

    return read


def test_grid_is_every_combination(points):
    found = points(grid={"seed_everything": [0, 1], "model.inner_steps": [1, 5]})
    assert found[1] == Point("seed_everything=0,inner_steps=5", ("--seed_everything", "0", "--model.inner_steps", "5"))
    assert [point.name for point in found] == [
        f"seed_everything={seed},inner_steps={steps}" for seed in (0, 1) for steps in (1, 5)
    ]


def test_list_is_one_point_each(points):
    found = points(list=[{"data.shots": 5}, {"data.shots": 1, "data.ways": 20}])
    assert [point.name for point in found] == ["shots=5", "shots=1,ways=20"]
    assert found[1].arguments == ("--data.shots", "1", "--data.ways", "20")


def test_seeds_are_counted_and_go_with_all_else(points):
    assert [point.arguments for point in points(seeds=3)] == [("--seed_everything", str(s)) for s in range(3)]
    found = points(list=[{"data.shots": 5}, {"data.shots": 1}], grid={"data.ways": [5, 20], "threads": [1]}, seeds=2)
    assert len(found) == len({point.name for point in found}) == 8
    assert found[-1].name == "shots=1,ways=20,seed_everything=1"  # all have one thread
    assert found[-1].arguments[4:6] == ("--threads", "1")


def test_configuration_comes_first_so_that_the_others_win_over_it(points, tmp_path):
    config = write_yaml(tmp_path / "maml.yaml", maml())
    (found,) = points(list=[{"data.shots": 5, "config": config}])
    assert found.arguments == ("--config", config, "--data.shots", "5")
    assert found.name == f"shots=5,config={tmp_path.name}-maml"


@pytest.mark.parametrize(
    ("command", "whole"),
    [
        ("fit", "fit --config P --x 1"),
        ("fit --y 2", "fit --config P --y 2 --x 1"),
        ("fit --config A --y 2", "fit --config A --config P --y 2 --x 1"),
        ("fit --y 2 --config A --config=B --z 3", "fit --y 2 --config A --config=B --config P --z 3 --x 1"),
        ("fit -c A", "fit -c A --config P --x 1"),
    ],
)
def test_options_of_the_command_win_over_the_points_configuration(command, whole):
    assert command_of(command.split(), Point("p", ("--config", "P", "--x", "1"))) == whole.split()
    without = command_of(command.split(), Point("p", ("--x", "1")))
    assert without == [*command.split(), "--x", "1"]


def test_values_reach_the_command_line_as_they_are(points, tmp_path, monkeypatch):
    values = {
        "model.engine.compile": True,
        "checkpoint.every_n_steps": None,
        "model.inner_lr": 0.25,
        "model.adapted": ["head.*", "body.*"],
        "trainer.precision": "bf16-mixed",
        "trainer.max_time": "00:12:00:00",
        "checkpoint.every_n_minutes": 1e-05,
    }
    (found,) = points(list=[values])
    config = write_yaml(tmp_path / "c.yaml", maml())
    options = read_options(monkeypatch, ["fit", "--config", config, *found.arguments])
    given = {"model": options.model.init_args, "trainer": options.trainer, "checkpoint": options.checkpoint}
    for key, value in values.items():
        group, _, rest = key.partition(".")
        assert given[group][rest] == value
    assert "/" not in found.name
    assert "adapted=-head.-body.," in found.name


@pytest.mark.parametrize(
    ("keys", "short"),
    [
        (["data.seed", "seed_everything"], ["seed", "seed_everything"]),
        (["model.network.channels", "data.ways"], ["channels", "ways"]),
        (["model.optimizer.lr", "model.head.lr"], ["optimizer.lr", "head.lr"]),
        (["a.b", "b"], ["a.b", "b"]),
    ],
)
def test_names_are_as_short_as_tells_them_apart(points, keys, short):
    (found,) = points(list=[dict.fromkeys(keys, 1)])
    assert [part.partition("=")[0] for part in found.name.split(",")] == short


def test_names_differ_whatever_the_values(points):
    found = points(grid={"trainer.profiler": ["a b", "a/b", "-1", "[1]", "x" * 300, "x" * 301, "", "ä", "1"]})
    names = [point.name for point in found]
    assert len(set(names)) == len(names)
    assert all("/" not in name and len(name.encode()) < 255 and name.isascii() for name in names)


NOWHERE = "nowhere/c.yaml"


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"gird": {"data.shots": [1]}}, "gird is no part of a sweep; did you mean grid?"),
        ({"zzz": 1}, "zzz is no part of a sweep; there are list, grid or seeds"),
        ({}, "there is nothing in it; expected list, grid or seeds"),
        ({"list": []}, "list is empty, expected a list of options"),
        ({"list": {"data.shots": 1}}, "list is {'data.shots': 1}, expected a list of options"),
        ({"list": None}, "list is empty, expected"),
        ({"list": [{}]}, "entry 1 of list is empty, expected options such as"),
        ({"list": [{"data.shots": 1}, 3]}, "entry 2 of list is 3, expected options such as"),
        ({"list": [{"data": {"shots": 1}}]}, "has a mapping for data; write its options one by one, such as data.sh"),
        ({"list": [{"data.shots": 1}, {"data.shots": 1}]}, "the point --data.shots 1 is there twice; leave one out"),
        ({"list": [{"--data.shots": 1}]}, "entry 1 of list has '--data.shots', which is no option"),
        ({"list": [{3: 1}]}, "entry 1 of list has 3, which is no option"),
        ({"list": [{"run_dir": "x"}]}, "has run_dir, which a sweep chooses itself"),
        ({"grid": {"ckpt_path": ["x"]}}, "grid has ckpt_path, which a sweep chooses itself"),
        ({"list": [{"config": NOWHERE}]}, f"there is no file {NOWHERE}"),
        ({"list": [{"config": 3}]}, "entry 1 of list has config: 3, expected the name of a file"),
        ({"grid": {}}, "grid is empty, expected options with lists of values"),
        ({"grid": [1]}, "grid is [1], expected options with lists of values"),
        ({"grid": {"data.shots": 5}}, "grid has data.shots: 5, expected a list of the values"),
        ({"grid": {"data.shots": []}}, "grid has data.shots: empty, expected a list of the values"),
        ({"grid": {"data.shots": [1, 1]}}, "the point --data.shots 1 is there twice"),
        ({"grid": {"data.shots": [{"a": 1}]}}, "grid has a mapping for data.shots"),
        ({"grid": {"data.shots": [1]}, "list": [{"data.shots": 2}]}, "data.shots is in grid and in list"),
        ({"seeds": 0}, "seeds is 0, expected a number of seeds"),
        ({"seeds": True}, "seeds is True, expected a number of seeds"),
        ({"seeds": [1, 2]}, "seeds is [1, 2], expected a number of seeds"),
        ({"seeds": 2, "grid": {"seed_everything": [1]}}, "seeds stands for seed_everything, which list or grid has"),
    ],
)  # fmt: skip
def test_mistake(points, tmp_path, sweep, words):
    with pytest.raises(ValueError, match=r"sweep: \S+/s.yaml: ") as caught:
        points(**sweep)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path):
    with pytest.raises(ValueError, match=r"sweep: .* there is no file"):
        read_sweep(tmp_path / "s.yaml")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_sweep_that_comes_with_metalit(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = next(line for line in path.read_text().splitlines() if line.startswith("# python train.py submit "))
    words = shlex.split(command)[3:]
    assert words[words.index("--sweep") + 1] == str(path.relative_to(ROOT))
    assert Path(words[words.index("--cluster") + 1]).is_file()
    found = read_sweep(path)
    assert len(found) > 1
    for point in found:
        options = read_options(monkeypatch, [*words[words.index("fit") :], *point.arguments])
        assert f"seed_everything={options.seed_everything}" in point.name


def test_there_are_sweeps():
    assert FILES
