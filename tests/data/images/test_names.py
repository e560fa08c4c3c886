"""Names in one string are what a list of them is, and listings are in order."""

import pickle
import unicodedata

import numpy as np
import pytest

from metalit.data.images.building import in_two_classes
from metalit.data.images.folders import Folders
from metalit.data.images.listing import Entry, listed
from metalit.data.images.names import Names
from pictures import png, write_files

TEXTS = ["b/1.png", "", "é/ü.png", "a", "💐 \udcff"]


@pytest.mark.parametrize("texts", [TEXTS, [], [""]])
def test_names_are_a_sequence(texts):
    names = Names(iter(texts))
    assert (list(names), len(names)) == (texts, len(texts))
    assert [names[at] for at in range(-len(texts), len(texts))] == texts + texts
    assert list(names[1:4:2]) == texts[1:4:2]
    assert names == texts
    assert names != [*texts, "more"]
    assert list(pickle.loads(pickle.dumps(names))) == texts
    with pytest.raises(IndexError):
        names[len(texts)]


def test_names_are_taken_by_number():
    taken = Names(TEXTS).take(np.array([4, 0, 0])).take(np.array([2, 0]))
    assert list(taken) == [TEXTS[0], TEXTS[4]]


def test_folders_are_listed_by_class_then_by_name(tmp_path):
    """Also where a class has folders within it, and where names are not in the form of the listing."""
    decomposed = unicodedata.normalize("NFD", "é")
    files = ["a/z.png", "a/b/1.png", "a/b.png", "a b/1.png", f"a/{decomposed}.png", f"a/{decomposed}/1.png"]
    listing = Folders(write_files(tmp_path, {file: png(len(file)) for file in files}), with_splits=False).listing()
    assert listing.classes == ["a", "a b"]
    expected = ["a/b.png", "a/b/1.png", "a/z.png", "a/é.png", "a/é/1.png", "a b/1.png"]
    assert list(listing.names) == expected
    assert listing.labels.tolist() == [0, 0, 0, 0, 0, 1]
    assert [unicodedata.normalize("NFC", place) for place in listing.places] == expected
    assert [len(Folders(tmp_path, with_splits=False).fetch(place)) > 0 for place in listing.places] == [True] * 6


def test_a_class_in_several_folders_of_splits_has_the_split_of_each(tmp_path):
    files = {file: png(1) for file in ("Validation/b/1.png", "train/a/1.png", "train/b/0.png")}
    listing = Folders(write_files(tmp_path, files), with_splits=True).listing()
    assert list(listing.names) == ["train/a/1.png", "Validation/b/1.png", "train/b/0.png"]
    assert listing.splits.tolist() == [0, 1, 0]


def test_every_image_that_is_in_another_class_is_found():
    entries = [Entry(label, f"{number}", number) for number, label in enumerate("aaabbcc")]
    contents = np.array([[1, 1], [7, 1], [0, 0], [1, 1], [1, 2], [0, 0], [1, 1]], dtype=np.uint64)
    found = in_two_classes(listed(entries, [], ""), contents)
    assert sorted(found) == [0, 3, 6]
    assert found[3] == found[6] == "the same image is in class a too, as 0"
    assert in_two_classes(listed(entries[:3], [], ""), contents[[0, 0, 0]]) == {}
