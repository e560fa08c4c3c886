import pytest
import torch

from metalit.data import Glyphs, ImageCompletion
from metalit.data.stream import SPLITS


def make(**settings):
    images = Glyphs(classes=12, examples_per_class=3)
    return ImageCompletion(images, **({"shots": 50, "queries": 734} | settings))


def test_all_pixels_together_are_an_image_of_the_split():
    data = make()
    for split in SPLITS:
        episode = data.episodes(split, 0, 3)
        images = data.stores[split].items.double() / 255
        for task in range(3):
            x = torch.cat([part.x[task] for part in episode[:2]])
            y = torch.cat([part.y[task] for part in episode[:2]])
            column, row = ((x + 1) / 2 * 27).round().long().T
            image = torch.full((28, 28), torch.nan, dtype=torch.float64)
            image[row, column] = y[:, 0].double()
            distances = (images[:, 0] - image).abs().amax((1, 2))
            assert distances.min() < 1e-6


def test_shapes_and_ranges():
    support, query, _ = make(queries=20, train_shots=7).episodes("train", 4, 5)
    assert (support.x.shape, support.y.shape) == ((5, 7, 2), (5, 7, 1))
    assert (query.x.shape, query.y.shape) == ((5, 20, 2), (5, 20, 1))
    assert support.x.dtype == support.y.dtype == torch.float32
    assert -1 <= support.x.min() < support.x.max() <= 1
    assert 0 <= query.y.min() < query.y.max() <= 1


def test_no_pixel_comes_twice():
    support, query, _ = make().episodes("test", 0, 4)
    places = torch.cat([support.x, query.x], dim=1)
    assert all(len(task.unique(dim=0)) == 784 for task in places)


def test_an_episode_is_a_function_of_seed_split_and_number():
    whole, part = make().episodes("val", 0, 6), make().episodes("val", 4, 2)
    assert torch.equal(whole.query.y[4:], part.query.y)
    assert not torch.equal(make(seed=1).episodes("val", 4, 2).query.y, part.query.y)


def test_more_pixels_than_there_are():
    with pytest.raises(ValueError, match=r"queries is 735, expected .* at most 784, the pixels of an image"):
        make(queries=735).setup("test")


def test_a_result_says_which_images():
    assert make().setting()["images"] == "Glyphs"
