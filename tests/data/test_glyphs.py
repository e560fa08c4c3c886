import pytest
import torch
from jsonargparse import ArgumentParser

from metalit.data import EpisodicDataModule
from metalit.data.glyphs import Glyphs
from metalit.data.stream import SPLITS


def images(split="train", **settings):
    """``[classes, examples, 28, 28]``."""
    store = Glyphs(**{"classes": 12, "examples_per_class": 6} | settings).load(split)
    return store.items.reshape(len(store.class_sizes), -1, 28, 28)


def test_sizes_names_and_types():
    stores = {split: Glyphs(classes=40, examples_per_class=3).load(split) for split in SPLITS}
    assert [len(stores[split].class_sizes) for split in SPLITS] == [40, 10, 10]
    assert all(set(store.class_sizes.tolist()) == {3} for store in stores.values())
    assert stores["train"].items.shape == (120, 1, 28, 28)
    assert stores["train"].items.dtype == torch.uint8
    names = [name for store in stores.values() for name in store.class_names]
    assert len(set(names)) == 60


def test_eval_classes_sets_both_evaluation_splits():
    assert [len(images(split, eval_classes=7)) for split in SPLITS] == [12, 7, 7]


def test_drawing_is_reproducible():
    assert torch.equal(images(), images())


def test_a_class_does_not_depend_on_how_many_there_are():
    assert torch.equal(images(classes=30)[:12], images())


def test_an_example_does_not_depend_on_how_many_there_are():
    assert torch.equal(images(examples_per_class=9)[:, :6], images())


def test_no_drawing_comes_twice():
    """Not in another split, nor under another seed, class or number."""
    drawings = torch.cat(
        [images(split, seed=seed, eval_classes=12).flatten(0, 1) for split in SPLITS for seed in (0, 1)]
    )
    assert len(drawings.flatten(1).unique(dim=0)) == 6 * 12 * 6


def likeness(some, others):
    """How alike the mean drawings of class 0, 1, ... are, on average: 1 for the same character."""
    some, others = ((x / 255).mean(1).flatten(1) for x in (some, others))
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(some, others, strict=True)]).mean()


def test_splits_and_seeds_have_characters_of_their_own():
    train = images(examples_per_class=20)
    assert likeness(train[:, :10], train[:, 10:]) > 0.7
    assert likeness(train, images("val", eval_classes=12)) < 0.5
    assert likeness(train, images("test", eval_classes=12)) < 0.5
    assert likeness(train, images(seed=1)) < 0.5


def test_strokes_are_bright_on_an_empty_ground():
    drawings = images(classes=50).flatten(0, 1).flatten(1)
    assert (drawings.amax(1) == 255).float().mean() > 0.9
    assert drawings.amax(1).min() > 128
    ink = (drawings / 255).mean(1)
    assert ink.min() > 0.02
    assert ink.max() < 0.6
    assert ((drawings > 0) & (drawings < 255)).any(1).all(), "no antialiasing"


def test_classes_are_recognisable_but_need_learning():
    """Nearest support image, 5-way 1-shot: pixels tell something, far from all."""
    data = Glyphs(classes=200, shots=1, queries=5)
    support, query, _ = data.episodes("test", 0, 300)
    assert support.x.shape == (300, 5, 1, 28, 28)
    assert 0 <= support.x.min() < support.x.max() <= 1
    distances = torch.cdist(query.x.flatten(2), support.x.flatten(2))
    predicted = support.y.gather(1, distances.argmin(2))
    accuracy = (predicted == query.y).double().mean().item()
    assert 0.4 < accuracy < 0.9


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"classes": 1}, "classes is 1.*at least 2"),
        ({"eval_classes": 0}, "eval_classes is 0.*at least 2"),
        ({"examples_per_class": 0}, "examples_per_class is 0.*at least 1"),
    ],
)
def test_settings_out_of_range_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        Glyphs(**setting)


def test_too_many_ways_names_the_numbers():
    with pytest.raises(ValueError, match="ways is 20, expected at most 10, the classes of the val split"):
        Glyphs(classes=40, ways=20).setup("fit")


def test_every_setting_is_reachable_from_the_command_line():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EpisodicDataModule, "data")
    line = "--data=metalit.data.glyphs.Glyphs --data.classes=50 --data.ways=20 --data.train_shots=3 --data.seed=4"
    data = Glyphs(**parser.parse_args(line.split()).data.init_args)
    assert (data.classes, data.ways, data.train_shots, data.seed) == (50, 20, 3, 4)
