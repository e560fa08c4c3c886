"""Sheets show the images and what was predicted of them."""

import numpy as np
import pytest
import torch
from matplotlib.colors import same_color

from metalit.data import Sinusoid
from metalit.episode import Episode, Labelled
from metalit.figures import episode_sheet, is_sheet_possible
from metalit.figures.sheets import RIGHT, WRONG, shortened
from padding import padded, with_mask


def picture_episode(channels: int = 1, ways: int = 3, shots: int = 2, queries: int = 4) -> Episode:
    def part(each: int) -> Labelled:
        y = torch.arange(ways).repeat_interleave(each).unsqueeze(0)
        return Labelled(torch.rand(1, ways * each, channels, 6, 6), y)

    return Episode(part(shots), part(queries), torch.arange(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_sheet_frames_right_and_wrong_queries(channels):
    episode = picture_episode(channels)
    predicted = episode.query.y.clone()
    predicted[0, 5] = 2  # an image of class 1
    figure = episode_sheet(episode, torch.nn.functional.one_hot(predicted, 3).float())
    (axes,) = figure.axes
    assert len(axes.images) == 3 * (2 + 4)
    frames = [patch.get_edgecolor() for patch in axes.patches]
    assert sum(same_color(frame, RIGHT) for frame in frames) == 11
    assert sum(same_color(frame, WRONG) for frame in frames) == 1
    texts = [text.get_text() for text in axes.texts]
    assert "2 (true 1)" in texts
    assert "query: 11 of 12 recognised" in texts


def test_sheet_leaves_the_padding_of_a_smaller_task_out():
    episode = padded(with_mask(picture_episode()))
    assert is_sheet_possible(episode)
    (axes,) = episode_sheet(episode, torch.nn.functional.one_hot(episode.query.y, 3).float()).axes
    assert len(axes.images) == 3 * (2 + 4)
    assert "query: 12 of 12 recognised" in [text.get_text() for text in axes.texts]


def test_sheet_shows_strokes_dark_and_leaves_colours():
    grey, coloured = (
        picture_episode(1, ways=2, shots=1, queries=1),
        picture_episode(3, ways=2, shots=1, queries=1),
    )
    for episode, invert in ((grey, True), (coloured, False)):
        low = min(part.x.min() for part in episode[:2])
        high = max(part.x.max() for part in episode[:2])
        image = (episode.support.x[0, 0] - low) / (high - low)
        expected = (1 - image).expand(3, 6, 6) if invert else image
        drawn = episode_sheet(episode, torch.eye(2).unsqueeze(0)).axes[0].images[0].get_array()
        np.testing.assert_allclose(drawn, expected.permute(1, 2, 0), atol=1e-6)


def test_sheet_of_many_ways_shows_the_first_ten():
    episode = picture_episode(1, ways=20, shots=7, queries=9)
    axes = episode_sheet(episode, torch.zeros(1, 180, 20)).axes[0]
    assert len(axes.images) == 10 * (5 + 8)


def test_a_sheet_needs_images():
    assert is_sheet_possible(picture_episode())
    assert not is_sheet_possible(picture_episode(channels=2))
    assert not is_sheet_possible(Sinusoid().episodes("test", 0, 1))


def test_names_of_classes_and_files_are_shown():
    episode = picture_episode(channels=3)
    ways = int(episode.support.y.max()) + 1
    classes = [f"a very long name of class {way} $" for way in range(ways)]
    support, query = (
        [f"{part}/{number:03}.png" for number in range(labels.shape[1])]
        for part, labels in (("s", episode.support.y), ("q", episode.query.y))
    )
    logits = torch.nn.functional.one_hot(episode.query.y, ways).float()
    figure = episode_sheet(episode, logits, classes, support, query)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts.count(shortened(classes[0], 16)) == 1
    assert shortened(classes[0], 18) in texts
    assert {"000.png", shortened("001.png", 18)} <= set(texts)
    figure.canvas.draw()  # a "$" is no formula


def test_long_names_keep_their_beginning_and_end():
    assert shortened("short", 8) == "short"
    assert shortened("IMG_20260101_0001.jpg", 9) == "IMG_….jpg"
    assert len(shortened("IMG_20260101_0001.jpg", 18)) == 18
