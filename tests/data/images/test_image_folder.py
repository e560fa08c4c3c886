"""ImageFolder: the same pictures from every form, classes divided without overlap, a cache that is right."""

import json
import unicodedata

import numpy as np
import pytest
import torch

from metalit.data import ImageFolder
from metalit.errors import SettingError, UserError
from pictures import (
    EACH,
    NAMES,
    SPLITS,
    Torchvision,
    png,
    write_files,
    write_flat,
    write_imagefolder,
    write_lists,
    write_manifest,
    write_meta_album,
    write_parquet,
    write_shards,
    write_splits,
)

SETTINGS = {"size": 16, "ways": 5, "shots": 1, "queries": 3, "decoders": 1}


def folder(root, **settings):
    return ImageFolder(root=str(root), **{**SETTINGS, **settings})


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    return write_flat(tmp_path_factory.mktemp("flat"))


@pytest.fixture(scope="module")
def expected(flat, tmp_path_factory):
    """The store of each split, as the plainest form gives it."""
    lists = write_lists(tmp_path_factory.mktemp("lists"))
    data = folder(flat, splits=str(lists))
    return {split: data.load(split) for split in SPLITS}


FORMS = {
    "splits": (write_splits, {}),
    "meta album": (write_meta_album, {"splits": SPLITS}),
    "manifest": (write_manifest, {}),
    "imagefolder": (write_imagefolder, {}),
    "parquet": (write_parquet, {}),
    "webdataset": (write_shards, {}),
}


@pytest.mark.parametrize("form", [*FORMS, "object"])
def test_every_form_gives_the_same_store(form, expected, tmp_path):
    if form == "parquet":
        pytest.importorskip("pyarrow")
    if form == "object":
        data = folder(tmp_path, dataset={split: Torchvision(split) for split in SPLITS})
    else:
        write, settings = FORMS[form]
        data = folder(write(tmp_path / "root"), **settings)
    for split, store in expected.items():
        other = data.load(split)
        assert list(other.class_names) == list(store.class_names) == SPLITS[split]
        assert np.array_equal(other.class_sizes, store.class_sizes)
        assert torch.equal(other.items, store.items)
        assert len(other.example_names) == len(store.items)


def test_names_of_files_and_classes_are_those_on_disk(expected):
    store = expected["val"]
    assert store.example_names[0] == f"{NAMES[18]}/{NAMES[18]} 000.png"
    assert store.items.shape == (6 * EACH, 3, 16, 16)


def test_a_division_by_seed_is_without_overlap_and_reproducible(flat):
    splits = folder(flat).class_splits()
    assert [len(splits[split]) for split in ("train", "val", "test")] == [19, 5, 6]
    assert sorted(name for names in splits.values() for name in names) == NAMES
    assert folder(flat, shots=2).class_splits() == splits
    assert folder(flat, split_seed=1).class_splits() != splits
    assert [len(names) for names in folder(flat, shares=(0.5, 0.0, 0.5)).class_splits().values()] == [15, 0, 15]


def test_another_class_moves_few(flat, tmp_path):
    before = folder(flat).class_splits()
    after = folder(write_files(write_flat(tmp_path, each=1), {"another/1.png": png(99)})).class_splits()
    assert len(set(before["test"]) - set(after["test"])) <= 1


def test_groups_stay_together(tmp_path):
    splits = folder(write_meta_album(tmp_path), split_by="group", shares=(0.4, 0.3, 0.3)).class_splits()
    assert sorted(map(sorted, splits.values())) == sorted(map(sorted, SPLITS.values()))


def test_all_classes_can_be_test_classes(flat):
    data = folder(flat, splits="test")
    assert list(data.load("test").class_names) == NAMES
    with pytest.raises(UserError, match="no classes in the train split"):
        data.load("train")


def test_lists_are_checked_before_anything_is_decoded(tmp_path):
    for splits, why in (
        ("nowhere", "train.txt"),
        ({"training": ["a"], "test": ["a"]}, "a is in two splits"),
        ({"trial": ["a"]}, "lists of train, val, test"),
    ):
        with pytest.raises(UserError, match=why):
            folder(tmp_path, splits=splits)


def test_a_list_with_an_unknown_class_is_refused(flat):
    with pytest.raises(UserError, match="no class dragon among the 30"):
        folder(flat, splits={"test": ["dragon"]}).load("test")


def test_small_classes_are_named_or_left_out(tmp_path):
    root = write_files(write_flat(tmp_path, classes=10), {"small/1.png": png(99), "smaller/1.png": png(98)})
    with pytest.raises(UserError, match=r"2 classes of the test split .* small \(1\), smaller \(1\)"):
        folder(root, splits="test").load("test")
    data = folder(root, splits="test", small_classes="skip")
    assert list(data.load("test").class_names) == NAMES[:10]
    assert data.setting()["small_classes_left_out"] == {"test": ["small", "smaller"]}


def test_the_division_does_not_depend_on_small_classes(tmp_path):
    """A training class with one shot would else be a test class with five."""
    root = write_files(
        write_flat(tmp_path, each=5), {f"{name}/6.png": png(99, n, 7) for n, name in enumerate(NAMES[::2])}
    )
    one, five = (folder(root, shots=shots, small_classes="skip") for shots in (1, 3))
    assert set(five.load("test").class_names) < set(one.load("test").class_names)


def test_results_state_how_images_were_made(flat):
    data = folder(flat, fit="pad")
    assert data.setting()["resize"] == "16x16, pad, bilinear"
    data.load("test")
    assert data.setting()["images"] == 360
    assert data.setting()["classes"] == {"train": 19, "val": 5, "test": 6}
    assert data.setting()["class_split"].startswith("by seed 0")
    json.dumps(data.setting())


def test_one_name_in_two_spellings_is_one_class(tmp_path):
    one, two = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    data = folder(write_files(tmp_path, {f"{one}/1.png": png(1), f"{two}/2.png": png(2)}), splits="test", queries=1)
    assert list(data.load("test").class_names) == [one]


def test_columns_with_other_names_are_told(tmp_path):
    write_files(tmp_path, {"a.png": png(1), "b.png": png(2)})
    (tmp_path / "labels.csv").write_text("datei;art\na.png;x\nb.png;x\n")
    with pytest.raises(UserError, match=r"labels\.csv: it has no column for the file, only datei, art"):
        folder(tmp_path).load("test")
    data = folder(tmp_path, columns={"file": "datei", "label": "art"}, splits="test", queries=1)
    assert list(data.load("test").example_names) == ["a.png", "b.png"]
    with pytest.raises(SettingError):
        folder(tmp_path, columns={"colour": "x"})


def test_meta_album_may_rename_its_columns(tmp_path):
    write_meta_album(tmp_path)
    text = (tmp_path / "labels.csv").read_text()
    (tmp_path / "labels.csv").write_text(text.replace("FILE_NAME,CATEGORY", "picture,what"))
    info = {"image_column_name": "picture", "category_column_name": "what", "total_categories": 30}
    (tmp_path / "info.json").write_text(json.dumps(info))
    assert list(folder(tmp_path, splits="test").load("test").class_names) == NAMES


def test_splits_with_the_same_classes_can_be_divided_anew(tmp_path):
    """As most data sets of Hugging Face are made, for classification and not for few shots."""
    for number, split in enumerate(("train", "test")):
        write_files(tmp_path, {f"{split}/{name}/{number}.png": png(number, ord(name)) for name in "abcdef"})
    with pytest.raises(UserError, match=r"train/a/0\.png: its class a is in two splits"):
        folder(tmp_path).load("test")
    splits = folder(tmp_path, splits="seed", shares=(0.5, 0.0, 0.5)).class_splits()
    assert sorted(splits["train"] + splits["test"]) == list("abcdef")


def test_a_data_set_of_torchvision_is_read_from_its_files(flat, expected):
    class WithSamples:
        classes = NAMES
        samples = tuple(
            (str(flat / name / f"{name} {n:03}.png"), NAMES.index(name)) for name in NAMES for n in range(EACH)
        )

        def __len__(self):
            return len(self.samples)

        def __getitem__(self, index):
            raise AssertionError("files are read instead")

    data = folder(flat, dataset=WithSamples(), splits=SPLITS)
    assert torch.equal(data.load("test").items, expected["test"].items)


@pytest.mark.parametrize(
    "item",
    [
        np.full((9, 9, 3), 255, np.uint8),
        torch.ones(3, 9, 9),
        np.ones((9, 9)),
        torch.full((1, 9, 9), 255, dtype=torch.uint8),
    ],
)
def test_items_may_be_arrays(item, tmp_path):
    dataset = type("Arrays", (), {
        "targets": [0, 1], "__len__": lambda self: 2, "__getitem__": lambda self, index: (item * (1 - index), index)
    })()  # fmt: skip
    store = folder(tmp_path, dataset=dataset, splits="test", shots=1, queries=1, small_classes="skip")
    with pytest.raises(UserError, match="no classes"):
        store.load("test")
    assert store.prepared().pixels[0].min() == 255
    assert store.prepared().pixels[1].max() == 0


def test_episodes_are_images(flat):
    episode = folder(flat).episodes("test", 3, 2)
    assert episode.support.x.shape == (2, 5, 3, 16, 16)
    assert episode.query.x.shape == (2, 15, 3, 16, 16)
    assert 0 <= episode.query.x.min() < 0.1 < 0.9 < episode.query.x.max() <= 1
