"""Labels that a careless reader takes for others."""

import json
import tarfile

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
