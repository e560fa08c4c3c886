"""Labels that a careless reader takes for others."""

import json
import tarfile

import numpy as np
import pytest

from metalit.data import ImageFolder
from pictures import add, pictures

SIZES = {"ways": 2, "shots": 1, "queries": 1, "size": 8, "decoders": 1, "splits": "test", "small_classes": "skip"}


def names_of(root, **settings):
    data = ImageFolder(root=str(root), **{**SIZES, **settings})
    return data, data.load("test")


def write_table(path, labels, names=("apple", "pear"), first=0):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    every = [data for _, _, _, data in pictures()][first : first + len(labels)]
    feature = {"label": {"names": list(names), "_type": "ClassLabel"}}
    table = pa.table({"image": [{"bytes": data, "path": None} for data in every], "label": labels})
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    pq.write_table(table.replace_schema_metadata(metadata), path)


def test_minus_one_is_no_class(tmp_path):
    """Hugging Face's number of a secret label."""
    write_table(tmp_path / "a.parquet", [0, 0, 1, 1, -1])
    data, store = names_of(tmp_path, on_bad_file="skip")
    assert store.class_sizes.tolist() == [2, 2]
    assert data.setting()["bad_files_left_out"] == 1
    with pytest.raises(ValueError, match="its label is -1, expected the number of a class from 0 to 1"):
        names_of(tmp_path)


def test_a_parquet_file_that_is_replaced_is_read_again(tmp_path):
    write_table(tmp_path / "a.parquet", [0, 0, 1, 1])
    _, before = names_of(tmp_path)
    write_table(tmp_path / "b", [0, 0, 1, 1], first=10)
    (tmp_path / "b").replace(tmp_path / "a.parquet")
    _, after = names_of(tmp_path)
    assert (before.items != after.items).any()


@pytest.mark.parametrize("order", [(".txt", ".cls"), (".cls", ".txt"), (".txt", ".json"), (".json", ".txt")])
def test_a_caption_is_not_taken_for_the_label(tmp_path, order):
    with tarfile.open(tmp_path / "pictures.tar", "w") as archive:
        for number, (_, _, _, data) in enumerate(list(pictures())[:4]):
            add(archive, f"{number}.png", data)
            label = "apple" if number < 2 else "pear"
            texts = {".txt": f"a photo, number {number}", ".cls": label, ".json": json.dumps({"label": label})}
            for suffix in order:
                add(archive, f"{number}{suffix}", texts[suffix].encode())
    _, store = names_of(tmp_path)
    assert list(store.class_names) == ["apple", "pear"]


class Numbered:
    """A data set in memory whose classes have names."""

    classes = ("apple", "pear", "plum")

    def __init__(self, targets):
        self.targets = targets

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return np.full((8, 8, 3), 20 * index, np.uint8), self.targets[index]


@pytest.mark.parametrize("number", [-1, 3])
def test_a_target_without_a_class_is_refused(tmp_path, number):
    with pytest.raises(ValueError, match=f"the target of item 4 is {number}, expected .* one of its 3 classes"):
        names_of(tmp_path, dataset=Numbered([0, 0, 1, 1, number]))


def test_a_file_in_two_splits_is_refused(tmp_path):
    rows = ["file,label,split", "0.png,apple,train", "0.png,apple,test", "1.png,apple,train"]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    for number, (_, _, _, data) in enumerate(list(pictures())[:2]):
        (tmp_path / f"{number}.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"line 3: 0\.png is in two splits, train and test"):
        names_of(tmp_path, splits="given")


def test_a_line_break_of_unicode_within_a_label_ends_no_line_of_json(tmp_path):
    rows = [{"file": f"{number}.png", "label": "a\u2028b" if number < 2 else "c"} for number in range(4)]
    (tmp_path / "labels.jsonl").write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    for number, (_, _, _, data) in enumerate(list(pictures())[:4]):
        (tmp_path / f"{number}.png").write_bytes(data)
    assert list(names_of(tmp_path)[1].class_names) == ["a\u2028b", "c"]
