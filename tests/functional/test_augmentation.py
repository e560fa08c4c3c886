"""Augmentation of images as a pure function of the images and of uniform numbers."""

import pytest
import torch
from torch.func import grad, vmap

from metalit.functional.augmentation import NUMBERS, Augmentation, augment
from metalit.tasks import TaskContext, uniform_like

F64 = torch.float64
DOWN, ACROSS, MIRRORED, AREA, RATIO, BRIGHTNESS, CONTRAST, SATURATION, ERASED, HOLE_AREA, HOLE_RATIO, TOP, LEFT = range(
    13
)
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=F64)[:, None, None]
EVERYTHING = Augmentation(crop=2, flip=True, brightness=0.4, contrast=0.4, saturation=0.4, erasing=0.5)
ENLARGED = Augmentation(resized_crop=0.3, flip=True, brightness=0.4, contrast=0.4, saturation=0.4, erasing=0.5)


def images(count=4, channels=3, height=6, width=6):
    return torch.rand(count, channels, height, width, dtype=F64, generator=torch.Generator().manual_seed(1))


def numbers(count=4, seed=2, **given):
    drawn = torch.rand(count, NUMBERS, dtype=F64, generator=torch.Generator().manual_seed(seed))
    for name, value in given.items():
        drawn[:, globals()[name]] = torch.as_tensor(value, dtype=F64)
    return drawn


def test_nothing_is_changed_by_default():
    assert torch.equal(augment(images(), numbers(), Augmentation()), images())


def test_crop_is_every_window_of_the_bordered_image():
    x, border = images(1, 1, 4, 5), 2
    bordered = torch.nn.functional.pad(x, [border] * 4)
    windows = bordered.unfold(2, 4, 1).unfold(3, 5, 1)[0, 0]  # [rows, columns, 4, 5]
    steps = torch.arange(5, dtype=F64) / 5 + 0.1
    drawn = numbers(25, DOWN=steps.repeat_interleave(5), ACROSS=steps.repeat(5))
    found = augment(x.expand(25, -1, -1, -1), drawn, Augmentation(crop=border))
    assert torch.equal(found, windows.reshape(25, 1, 4, 5))


@pytest.mark.parametrize("settings", [{}, {"crop": 2}, {"resized_crop": 0.5}])
def test_flip_mirrors_half_of_the_images_before_they_are_cut(settings):
    drawn = numbers(MIRRORED=[0.1, 0.499, 0.5, 0.9])
    found = augment(images(), drawn, Augmentation(flip=True, **settings))
    plain = augment(images(), drawn, Augmentation(**settings))
    torch.testing.assert_close(found[:2], plain[:2].flip(-1))
    torch.testing.assert_close(found[2:], plain[2:])


def test_resized_crop_of_the_whole_image_changes_nothing():
    drawn = numbers(AREA=1.0, RATIO=0.5)
    torch.testing.assert_close(augment(images(), drawn, Augmentation(resized_crop=0.2)), images())


@pytest.mark.parametrize(("down", "across"), [(0.0, 0.0), (1.0, 0.0), (0.5, 0.25)])
def test_resized_crop_is_a_rectangle_of_the_image_enlarged(down, across):
    """A linear image stays linear; its values at the window's edges give the window."""
    size, share, ratio = 40, 0.49, 1.1
    place = (torch.arange(size, dtype=F64) + 0.5) / size
    x = torch.stack([place[:, None].expand(size, size), place.expand(size, size)])[None]  # [row, column] in [0, 1]
    exponent = (torch.log(torch.tensor(ratio, dtype=F64)) / torch.log(torch.tensor(4 / 3, dtype=F64)) + 1) / 2
    drawn = numbers(1, DOWN=down, ACROSS=across, AREA=(share - 0.25) / 0.75, RATIO=exponent)
    found = augment(x, drawn, Augmentation(resized_crop=0.25))[0]
    high, wide = (share / ratio) ** 0.5, (share * ratio) ** 0.5
    inner = slice(2, -2)  # at the very edge of the image there is nothing to interpolate with
    expected = (down * (1 - high) + high * place, across * (1 - wide) + wide * place)
    torch.testing.assert_close(found[0, inner, inner], expected[0][inner, None].expand(36, 36))
    torch.testing.assert_close(found[1, inner, inner], expected[1][inner].expand(36, 36))


def test_colours_by_their_definitions():
    x = images() / 4 + 0.3  # far from 0 and 1, where values are cut
    drawn = numbers(BRIGHTNESS=0.75, CONTRAST=0.25, SATURATION=[0.0, 0.5, 0.9, 0.999])
    bright = x * 1.1  # 0.8 + 0.4 * 0.75
    torch.testing.assert_close(augment(x, drawn, Augmentation(brightness=0.2)), bright)
    mean = (x * LUMA).sum(1, keepdim=True).mean((2, 3), keepdim=True)
    torch.testing.assert_close(augment(x, drawn, Augmentation(contrast=0.2)), mean + 0.9 * (x - mean))
    grey, factors = (x * LUMA).sum(1, keepdim=True), 0.8 + 0.4 * drawn[:, SATURATION, None, None, None]
    torch.testing.assert_close(augment(x, drawn, Augmentation(saturation=0.2)), grey + factors * (x - grey))


def test_a_strength_above_one_does_not_invert_the_image():
    found = augment(images(), numbers(BRIGHTNESS=0.0), Augmentation(brightness=3.0))
    assert torch.equal(found, torch.zeros_like(found))


def test_grey_images_keep_their_grey_under_any_saturation():
    grey = images(channels=1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(augment(grey, numbers(), Augmentation(saturation=0.9)), grey)


def test_erasing_takes_a_rectangle_of_the_drawn_area_and_leaves_the_mean_colour():
    x, count = images(200, 3, 40, 40), 200
    found = augment(x, numbers(count), Augmentation(erasing=0.3))
    changed = (found != x).any(1)
    touched = changed.flatten(1).any(1)
    assert 0.2 < touched.double().mean() < 0.4
    hole = changed[touched]
    rows, columns = hole.any(2), hole.any(1)
    assert torch.equal(hole, rows[:, :, None] & columns[:, None, :])  # a rectangle
    share = hole.double().mean((1, 2))
    assert 0.01 < share.min() < 0.08
    assert 0.3 < share.max() < 0.45
    mean = x.mean((2, 3), keepdim=True).expand_as(x)[touched]
    torch.testing.assert_close(found[touched].movedim(1, -1)[hole], mean.movedim(1, -1)[hole])


@pytest.mark.parametrize("settings", [EVERYTHING, ENLARGED])
def test_values_stay_in_the_unit_interval_and_images_do_not_see_one_another(settings):
    x, drawn = images(50), numbers(50)
    found = augment(x, drawn, settings)
    assert 0 <= found.min() < found.max() <= 1
    assert not torch.equal(found, x)
    torch.testing.assert_close(found[7:9], augment(x[7:9], drawn[7:9], settings), rtol=1e-12, atol=1e-12)


def test_one_setting_does_not_shift_the_numbers_of_another():
    drawn, erasing = numbers(), Augmentation(erasing=1.0)
    both = augment(images(), drawn, Augmentation(crop=1, erasing=1.0))
    cropped = augment(images(), drawn, Augmentation(crop=1))
    torch.testing.assert_close(both, augment(cropped, drawn, erasing))


@pytest.mark.parametrize("settings", [EVERYTHING, ENLARGED])
def test_tasks_augment_by_their_keys_under_vmap_as_in_a_loop(settings):
    x, keys = images(12).reshape(3, 4, 3, 6, 6), torch.tensor([7, 8, 9])

    def task(key, support):
        with TaskContext(key, {}):
            return augment(support, uniform_like(support.new_empty(len(support), NUMBERS)), settings)

    looped = torch.stack([task(key, each) for key, each in zip(keys, x, strict=True)])
    torch.testing.assert_close(vmap(task)(keys, x), looped, rtol=1e-12, atol=1e-12)
    assert not torch.equal(task(keys[0], x[0]), task(keys[1], x[0]))
    gradient = vmap(grad(lambda each, key: task(key, each).square().sum()))(x, keys)
    expected = torch.stack(
        [grad(lambda each, key=key: task(key, each).square().sum())(one) for key, one in zip(keys, x, strict=True)]
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("settings", [EVERYTHING, ENLARGED])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_images_keep_their_dtype_and_extremes_of_the_numbers_are_taken(settings, dtype):
    for value in (0.0, 1 - 2.0**-24):
        drawn = torch.full((4, NUMBERS), value, dtype=torch.float32)
        found = augment(images().to(dtype), drawn, settings)
        assert found.dtype == dtype
        assert found.isfinite().all()


def test_images_need_not_be_square():
    assert augment(images(4, 3, 5, 8), numbers(), EVERYTHING).shape == (4, 3, 5, 8)
    assert augment(images(4, 3, 5, 8), numbers(), ENLARGED).shape == (4, 3, 5, 8)


@pytest.mark.parametrize(
    "settings",
    [
        {"crop": -1}, {"resized_crop": 0.0}, {"resized_crop": 1.1}, {"resized_crop": 0.5, "crop": 4},
        {"brightness": -0.1}, {"contrast": float("nan")}, {"saturation": float("inf")}, {"erasing": 1.5},
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        Augmentation(**settings)


def test_saturation_needs_colours():
    with pytest.raises(ValueError, match=r"saturation is 0.4.*1 channels"):
        augment(images(channels=1), numbers(), Augmentation(saturation=0.4))


def test_it_says_its_settings():
    assert repr(Augmentation(crop=4, flip=True, erasing=0.5)) == "Augmentation(crop=4, flip=True, erasing=0.5)"
