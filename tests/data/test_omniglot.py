import hashlib
import io
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from jsonargparse import ArgumentError, ArgumentParser
from PIL import Image

from metalit.data import EpisodicDataModule, omniglot
from metalit.data.cache import cached_arrays
from metalit.data.omniglot import Omniglot
from metalit.data.splits import read_splits
from metalit.data.stream import SPLITS
from metalit.errors import SettingError
from metalit.files import atomic_write
from miniature import read_zip, write_folder, write_omniglot, write_zip

CHARACTERS = {"train": 4, "val": 2, "test": 3}
ONE = "images_background/Alphabet_of_train/character02/0002_07.png"


@pytest.fixture
def root(tmp_path):
    write_omniglot(tmp_path, tuple(CHARACTERS.values()))
    return tmp_path


def miniature(root, **settings):
    return Omniglot(root=str(root), splits=str(root / "miniature-split"), **settings)


def images(root, split="train", **settings):
    return miniature(root, **settings).load(split).items


def change(root, half="images_background", **members):
    """Change members of an archive; ``None`` removes one."""
    path = root / f"{half}.zip"
    files = read_zip(path) | members
    write_zip(path, {name: content for name, content in files.items() if content is not None})


# ------------------------------------------------------------------------------------------- what is loaded


@pytest.mark.parametrize("split", SPLITS)
def test_a_split_has_its_characters_in_four_rotations(root, split):
    store = miniature(root).load(split)
    assert len(store.class_names) == len(set(store.class_names)) == 4 * CHARACTERS[split]
    assert set(store.class_sizes.tolist()) == {20}
    assert store.items.shape == (80 * CHARACTERS[split], 1, 28, 28)
    assert store.items.dtype == torch.uint8
    assert all(name.startswith(f"Alphabet_of_{split}/") for name in store.class_names)


def test_rotations_are_turned_drawings_of_the_same_character(root):
    turned = images(root).reshape(4, 4, 20, 28, 28)
    straight = images(root, rotations=False).reshape(4, 20, 28, 28)
    for turns in range(4):
        assert torch.equal(turned[:, turns], torch.rot90(straight, turns, (-2, -1)))
        assert not torch.equal(turned[:, turns], turned[:, turns - 1])
    assert miniature(root).load("val").class_names[:2] == [
        "Alphabet_of_val/character01/rot000",
        "Alphabet_of_val/character01/rot090",
    ]


def test_strokes_are_255_on_0_and_where_they_were_drawn(root):
    drawn = images(root, rotations=False).reshape(4, 20, 28, 28)[1, 6]
    original = np.asarray(Image.open(io.BytesIO(read_zip(root / "images_background.zip")[ONE])), dtype=np.float64)
    ink = np.kron(1 - original, np.ones((4, 4))).reshape(28, 15, 28, 15).mean((1, 3))
    assert np.corrcoef(ink.ravel(), drawn.numpy().ravel())[0, 1] > 0.9
    assert drawn.max() > 200
    assert (drawn == 0).double().mean() > 0.5


def test_folders_give_what_archives_give(root, tmp_path_factory):
    unpacked = tmp_path_factory.mktemp("unpacked") / "omniglot"
    for half in omniglot.MD5:
        write_folder(unpacked, read_zip(root / f"{half}.zip"))
    (unpacked / ONE).with_name("._0002_07.png").write_bytes(b"left by a file manager")
    data = Omniglot(root=str(unpacked.parent), splits=str(root / "miniature-split"))
    for split in SPLITS:
        assert torch.equal(data.load(split).items, images(root, split))


def test_foreign_members_of_an_archive_are_passed_over(root):
    before = images(root)
    change(
        root,
        **{"__MACOSX/images_background/A/character01/._0001_01.png": b"", "images_background/a.txt": b""},
    )
    assert torch.equal(images(root), before)


def test_episodes_are_floats_between_0_and_1(root):
    support, query, _ = miniature(root, queries=3).episodes("test", 0, 2)
    assert support.x.shape == (2, 5, 1, 28, 28)
    assert query.x.shape == (2, 15, 1, 28, 28)
    assert support.x.dtype == torch.float32
    assert support.x.min() == 0
    assert 0.5 < support.x.max() <= 1


def test_a_result_says_which_classes_it_is_about(root):
    setting = Omniglot(splits="background_evaluation", rotations=False).setting()
    assert (setting["splits"], setting["rotations"], setting["ways"]) == ("background_evaluation", False, 5)


# ------------------------------------------------------------------------------------------- the real thing


@pytest.fixture(scope="module")
def real(shared_data, tmp_path_factory):
    """A root of its own with links to the archives, so that the cache has a place."""
    if not (shared_data / "omniglot" / "images_background.zip").is_file():
        pytest.skip(f"no Omniglot in {shared_data}")
    folder = tmp_path_factory.mktemp("real")
    for half in omniglot.MD5:
        (folder / f"{half}.zip").symlink_to(shared_data / "omniglot" / f"{half}.zip")
    return folder


@pytest.mark.service
@pytest.mark.slow
def test_vinyals_split_of_the_real_data(real):
    data = Omniglot(root=str(real))
    stores = {split: data.load(split) for split in SPLITS}
    assert [len(store.class_names) for store in stores.values()] == [4112, 688, 1692]
    assert all(set(store.class_sizes.tolist()) == {20} for store in stores.values())
    assert len({name for store in stores.values() for name in store.class_names}) == 4 * 1623
    for store in stores.values():
        corners = store.items[:, 0, (0, 0, -1, -1), (0, -1, 0, -1)]
        assert (corners == 0).double().mean() > 0.99, "the background must be 0"
        assert store.items.flatten(1).amax(1).double().mean() > 240, "strokes must be 1"
        character = store.items[:80].reshape(4, 20, 28, 28)
        assert all(torch.equal(character[k], torch.rot90(character[0], k, (-2, -1))) for k in range(4))


@pytest.mark.service
def test_background_evaluation_split_of_the_real_data(real):
    data = Omniglot(root=str(real), splits="background_evaluation", rotations=False)
    stores = {split: data.load(split) for split in SPLITS}
    assert [len(store.class_names) for store in stores.values()] == [806, 158, 659]
    alphabets = [{name.split("/")[0] for name in store.class_names} for store in stores.values()]
    assert [len(names) for names in alphabets] == [25, 5, 20]
    assert len(set.union(*alphabets)) == 50


# ------------------------------------------------------------------------------------------- lists of classes


def test_shipped_lists_have_the_published_sizes():
    counts = {name: [len(c) for c in read_splits("omniglot", name).values()]
              for name in ("vinyals", "background_evaluation")}  # fmt: skip
    assert counts == {"vinyals": [1028, 172, 423], "background_evaluation": [806, 158, 659]}


def test_a_column_of_rotations_is_left_out(root):
    file = root / "miniature-split" / "val.txt"
    names = file.read_text().split()
    file.write_text("\n".join(f"{name}/rot{angle:03}" for name in names for angle in (0, 90, 180, 270)))
    assert read_splits("omniglot", str(file.parent))["val"] == names


def test_a_split_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SettingError, match=r"splits is vinyal, expected one of background_evaluation, vinyals"):
        Omniglot(root=str(tmp_path), splits="vinyal")


def test_a_class_in_two_splits_is_refused(root):
    with (root / "miniature-split" / "test.txt").open("a") as file:
        file.write("Alphabet_of_train/character03\n")
    with pytest.raises(ValueError, match=r"Alphabet_of_train/character03 is in both train.txt and test.txt"):
        miniature(root)


def test_a_line_of_another_form_is_refused(root):
    (root / "miniature-split" / "val.txt").write_text("character01\n")
    with pytest.raises(ValueError, match=r"val.txt has the line 'character01', expected group/class"):
        miniature(root)


# ------------------------------------------------------------------------------------------- broken sources


def test_a_truncated_archive_is_named(root):
    path = root / "images_background.zip"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"images_background.zip is not a sound zip archive"):
        images(root)


def test_a_damaged_member_is_named(root):
    path = root / "images_background.zip"
    packed = bytearray(path.read_bytes())
    packed[packed.index(ONE.encode()) + len(ONE) + 40] ^= 255
    path.write_bytes(packed)
    with pytest.raises(ValueError, match=r"images_background.zip is not a sound zip archive .*character02/0002_07.png"):
        images(root)


def png(size=(105, 105)):
    file = io.BytesIO()
    Image.new("1", size, 1).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no image", r"character02/0002_07.png in .*images_background.zip is not a readable image"),
        (png()[:60], r"character02/0002_07.png in .*images_background.zip is not a readable image"),
        (png((28, 28)), r"character02/0002_07.png in .*is 28x28 pixels, expected 105x105"),
        (None, r"Alphabet_of_train/character02 has 19 drawings, expected 20"),
    ],
)
def test_a_bad_drawing_is_named(root, content, message):
    change(root, **{ONE: content})
    with pytest.raises(ValueError, match=message):
        images(root)


def test_missing_characters_are_counted(root):
    names = [name for name in read_zip(root / "images_background.zip") if "train/character03" in name]
    change(root, **dict.fromkeys(names))
    with pytest.raises(ValueError, match=r"train split .* has 4 characters, but only 3 of them.*train/character03"):
        images(root)


# ------------------------------------------------------------------------------------------- fetching


def serve(monkeypatch, folder):
    """Let the archives come from a folder; their checksums are then those of the files there."""
    monkeypatch.setattr(omniglot, "URL", f"{folder.as_uri()}/")
    for half in omniglot.MD5:
        content = (folder / f"{half}.zip").read_bytes()
        monkeypatch.setitem(omniglot.MD5, half, hashlib.md5(content).hexdigest())


def test_archives_are_fetched_once(root, tmp_path_factory, monkeypatch):
    serve(monkeypatch, root)
    home = tmp_path_factory.mktemp("home")
    fetched = Omniglot(root=str(home), splits=str(root / "miniature-split")).load("train").items
    assert torch.equal(fetched, images(root))
    assert sorted(file.name for file in (home / "omniglot").iterdir()) == [f"{half}.zip" for half in omniglot.MD5]
    monkeypatch.setattr(omniglot, "URL", "file:///nowhere/")
    assert torch.equal(Omniglot(root=str(home), splits=str(root / "miniature-split")).load("train").items, fetched)


def test_a_wrong_checksum_leaves_no_file(root, tmp_path_factory, monkeypatch):
    serve(monkeypatch, root)
    monkeypatch.setitem(omniglot.MD5, "images_background", "0" * 32)
    home = tmp_path_factory.mktemp("home")
    with pytest.raises(ValueError, match=r"images_background.zip came with md5 .*, expected 0{32}"):
        Omniglot(root=str(home)).load("train")
    assert list((home / "omniglot").iterdir()) == []


def test_without_a_network_it_says_what_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setattr(omniglot, "URL", (tmp_path / "no-such-server").as_uri() + "/")
    with pytest.raises(SettingError) as caught:
        Omniglot(root=str(tmp_path)).load("train")
    message = str(caught.value)
    assert str(tmp_path / "omniglot" / "images_background.zip") in message
    assert f"{omniglot.URL}images_background.zip" in message


# ------------------------------------------------------------------------------------------- the cache


def forbid_reading(monkeypatch):
    def read(sources):
        raise AssertionError("the cache was not used")

    monkeypatch.setattr(omniglot, "read_drawings", read)


def test_the_second_time_comes_from_the_cache(root, monkeypatch):
    before = images(root)
    forbid_reading(monkeypatch)
    assert torch.equal(images(root), before)


def test_a_changed_archive_is_read_anew(root):
    before = images(root, rotations=False)
    change(root, **{ONE: png()})
    after = images(root, rotations=False)
    assert (before != after).flatten(1).any(1).nonzero().flatten().tolist() == [26]


def test_one_reading_serves_all_splits(root, monkeypatch):
    (root / "metalit-cache").write_text("a file where the folder should be: nothing can be written")
    data = miniature(root)
    data.load("train")
    forbid_reading(monkeypatch)
    assert len(data.load("test").class_names) == 12


def test_a_folder_marked_read_only_is_left_alone(root):
    root.chmod(0o555)
    try:
        assert len(images(root)) == 320
        assert not (root / "metalit-cache").exists()
    finally:
        root.chmod(0o755)


def numbers():
    return {"one": np.arange(500), "two": np.array(["a", "bc"])}


def damages():
    whole = random.Random(0)
    yield "empty", lambda content: b""
    yield "short", lambda content: content[:-100]
    yield "half", lambda content: content[: len(content) // 2]
    yield "text", lambda content: b"not an archive at all"
    for _ in range(40):
        place = whole.random()
        yield f"byte at {place:.2f}", lambda content, place=place: flip(content, int(place * len(content)))


def flip(content, place):
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in damages()])
def test_a_damaged_cache_never_changes_what_is_returned(tmp_path, damage):
    path = tmp_path / "cache" / "numbers.npz"
    cached_arrays(path, "print", numbers)
    path.write_bytes(damage(path.read_bytes()))
    for _ in range(2):
        arrays = cached_arrays(path, "print", numbers)
        assert arrays.keys() == numbers().keys()
        assert all(np.array_equal(arrays[name], numbers()[name]) for name in arrays)
    assert list(path.parent.iterdir()) == [path]


def test_another_fingerprint_builds_anew(tmp_path):
    path = tmp_path / "numbers.npz"
    cached_arrays(path, "old", lambda: {"one": np.zeros(3)})
    assert cached_arrays(path, "new", numbers)["one"][-1] == 499
    assert cached_arrays(path, "new", dict)["one"][-1] == 499


def test_an_interrupted_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupted():
        with atomic_write(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


TOGETHER = """
import sys, time
from pathlib import Path
from metalit.data import omniglot
root, name = Path(sys.argv[1]), sys.argv[2]
read = omniglot.read_drawings
def wait_and_read(sources):
    (root / f"building-{name}").touch()
    deadline = time.monotonic() + 60
    while len(list(root.glob("building-*"))) < 2:
        assert time.monotonic() < deadline, "the other process did not build"
        time.sleep(0.01)
    return read(sources)
omniglot.read_drawings = wait_and_read
data = omniglot.Omniglot(root=str(root), splits=str(root / "miniature-split"))
print(int(data.load("train").items.long().sum()))
"""


@pytest.mark.slow
def test_two_processes_that_start_together_both_succeed(root):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, "-c", TOGETHER, str(root)]
    both = [subprocess.Popen([*command, name], env=environment, stdout=subprocess.PIPE, text=True) for name in "ab"]
    printed = [process.communicate(timeout=120)[0].strip() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert printed == [str(int(images(root).long().sum()))] * 2
    assert [file.name for file in (root / "metalit-cache").iterdir()] == ["omniglot.npz"]


# ------------------------------------------------------------------------------------------- command line


def parse(line):
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(EpisodicDataModule, "data")
    return parser.parse_args(["--data=metalit.data.omniglot.Omniglot", *line.split()]).data.init_args


@pytest.mark.service
def test_every_setting_is_reachable_from_the_command_line(root):
    line = f"--data.root={root} --data.splits={root / 'miniature-split'} --data.rotations=false"
    data = Omniglot(**parse(f"{line} --data.ways=3 --data.queries=2 --data.init_args.train_queries=4"))
    assert (data.rotations, data.ways, data.queries, data.train_queries) == (False, 3, 2, 4)
    assert Path(data.splits) == root / "miniature-split"
    assert len(data.load("test").class_names) == 3


def test_a_misspelt_setting_is_refused():
    with pytest.raises(ArgumentError, match="rotation"):
        parse("--data.rotation=false")
