"""Films and strips of given trajectories: which picture is where, and when."""

import numpy as np

from metalit.environments.filmed import Take
from metalit.figures import Scene, film, film_strip
from metalit.figures.films import CAPTION, PANEL


def take(times, ended=False, brightness=0):
    """Pictures whose grey says when they were taken."""
    return Take([np.full((30, 40, 3), 10 * time + brightness, np.uint8) for time in times], list(times), -1.5, ended)


def middle(pictures, row, column):
    """The grey in the middle of a panel, over time."""
    height = PANEL[1] + 2 * CAPTION
    return pictures[:, row * height + CAPTION + PANEL[1] // 2, column * PANEL[0] + PANEL[0] // 2, 0].tolist()


def test_a_film_shows_first_and_last_stage_beside_one_another():
    stages = {"before": take([0, 2, 4]), "between": take([0, 2, 4], brightness=100), "after": take([0, 2, 4, 6, 8])}
    pictures = film([Scene("one", stages), Scene("other", {"only": take([0, 2], brightness=5)})], every=2)
    assert pictures.shape == (5, 2 * (PANEL[1] + 2 * CAPTION), 2 * PANEL[0], 3)
    assert middle(pictures, 0, 0) == [0, 20, 40, 40, 40]
    assert middle(pictures, 0, 1) == [0, 20, 40, 60, 80]
    assert middle(pictures, 1, 0) == [5, 25, 25, 25, 25]
    assert middle(pictures, 1, 1) == [255] * 5
    assert pictures[:, :CAPTION].min() < 50  # the title


def test_a_trajectory_that_has_ended_turns_pale():
    pictures = film([Scene("one", {"before": take([0, 2, 3], ended=True), "after": take([0, 2, 4, 6])})], every=2)
    assert middle(pictures, 0, 0) == [0, 20, 180, 180]


def test_a_last_picture_between_two_times_is_in_the_film():
    assert middle(film([Scene("one", {"only": take([0, 2, 3], ended=True)})], every=2), 0, 0)[-2:] == [20, 180]


def test_a_large_picture_is_made_smaller():
    large = Take([np.full((400, 800, 3), 7, np.uint8)], [0])
    pictures = film([Scene("one", {"only": large})], every=1)
    assert pictures.shape[2] == PANEL[0]
    assert middle(pictures, 0, 0) == [7]
    assert pictures[0, CAPTION + 10, 120, 0] == 255  # 240 x 120 pixels in 240 x 180


def test_a_strip_has_a_row_for_each_stage_and_a_column_for_each_time():
    stages = {"before": take([0, 2, 4, 6, 8, 10]), "after": take([0, 2, 4], ended=True)}
    figure = film_strip([Scene("one", stages)])
    shown = [int(axes.images[0].get_array()[0, 0, 0]) for axes in figure.axes]
    assert shown == [0, 20, 40, 60, 80, 100, 0, 20, 40, 184, 184, 184]
    assert [axes.get_title().splitlines()[-1] for axes in figure.axes[:6]] == [f"step {2 * n}" for n in range(6)]
    assert "after\nreturn -1.5" in figure.axes[6].get_ylabel()
