"""Tables in other forms: a column for each class, names without suffix, several folders, classes that are left out."""

from pathlib import Path

import pytest

from metalit.data import ImageFolder
from metalit.errors import SettingError, UserError
from miniature import FINDINGS, ISIC, write_chestx, write_isic
from pictures import png, write_files, write_flat
from yaml_files import read_yaml

CONFIGS = Path(__file__).parents[3] / "configs" / "data"


def of_config(name, root, **settings):
    """The data set of a config, on a miniature."""
    return ImageFolder(**read_yaml(CONFIGS / f"{name}.yaml")["data"]["init_args"] | {
        "root": str(root), "size": 8, "shots": 1, "queries": 2, "decoders": 1, **settings
    })  # fmt: skip


def test_isic_as_it_is_unpacked(tmp_path):
    store = of_config("isic", write_isic(tmp_path)).load("test")
    assert (list(store.class_names), store.class_sizes.tolist()) == (sorted(ISIC), [8] * 7)
    assert store.example_names[:2] == [f"ISIC2018_Task3_Training_Input/ISIC_{24309 + at:07}.jpg" for at in (0, 7)]


@pytest.mark.parametrize("folders", [["images"], ["images_001/images", "images_002/images"]])
def test_chestx_of_nih_and_of_kaggle(folders, tmp_path):
    data = of_config("chestx", write_chestx(tmp_path, folders=folders))
    store = data.load("test")
    assert (list(store.class_names), store.class_sizes.tolist()) == (sorted(FINDINGS), [8] * 7)
    # those with several findings or another one are not even decoded
    assert data.setting()["images"] == len(store.items) == 56
    assert store.items[0].equal(store.items[0][:1].expand(3, -1, -1))


def test_other_classes_have_another_cache(tmp_path):
    root = write_flat(tmp_path, 4, 3)
    settings = {"root": str(root), "size": 8, "ways": 2, "shots": 1, "queries": 2, "decoders": 1, "splits": "test"}
    every = ImageFolder(**settings).load("test")
    some = ImageFolder(**settings, only_classes=["class 03", "class 01"])
    store = some.load("test")
    assert list(store.class_names) == ["class 01", "class 03"]
    assert store.items.equal(every.items[[3, 4, 5, 9, 10, 11]])
    assert list(store.example_names) == [name for name in every.example_names if name[6:8] in ("01", "03")]
    with pytest.raises(SettingError, match=r"'dragon'.*|dragon.* one of the 4 classes"):
        ImageFolder(**settings, only_classes=["dragon"]).load("test")


@pytest.mark.parametrize("cells", ["1,1", "0,0", "2,0", "a,0", "0.5,0.5", ","])
def test_a_label_in_columns_is_one_class(cells, tmp_path):
    write_files(tmp_path, {"a.png": png(1)})
    (tmp_path / "labels.csv").write_text(f"file,cat,dog\na,{cells}\n")
    with pytest.raises(UserError, match=r"labels\.csv, line 2: its label is .*expected 1 for one class"):
        ImageFolder(root=str(tmp_path), columns={"label": ["cat", "dog"]}).load("test")


def test_columns_that_do_not_exist_are_refused(tmp_path):
    write_files(tmp_path, {"a.png": png(1)})
    (tmp_path / "labels.csv").write_text("file,cat,dog\na,1,0\n")
    with pytest.raises(UserError, match=r"labels\.csv: it has no column cow, only file, cat, dog"):
        ImageFolder(root=str(tmp_path), columns={"label": ["cat", "cow"]}).load("test")


@pytest.mark.parametrize(
    "settings", [{"image_dir": "x"}, {"columns": {"label": ["a", "b"]}}, {"columns": {"file": ["a", "b"]}}]
)
def test_settings_of_tables_are_refused_without_one(settings, tmp_path):
    with pytest.raises(SettingError) as error:
        ImageFolder(root=str(write_flat(tmp_path, 2, 1)), **settings).load("test")
    assert error.value.name.removeprefix("data.") in settings
