"""Images are decoded once; whatever changes is decoded again, and processes do not disturb one another."""

import copy
import os
import pickle
import re
import shutil
import signal
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import metalit.data.images.caching as caching
from metalit.data import ImageCompletion, ImageFolder
from metalit.data.cache import atomic_folder
from metalit.data.images import EncodedExamples, Resize
from metalit.data.store import Examples
from metalit.errors import SettingError, UserError
from pictures import png, write_files, write_flat


@pytest.fixture
def root(tmp_path):
    return write_flat(tmp_path / "root", 6, 5)


def folder(root, **settings):
    return ImageFolder(root=str(root), **{"size": 16, "ways": 2, "queries": 2, "splits": "test", **settings})


def caches(root):
    return sorted(each.name for each in (root / "metalit-cache").iterdir())


@pytest.fixture
def builds(monkeypatch):
    """How often images were decoded."""
    made, build = [], caching.build
    monkeypatch.setattr(caching, "build", lambda *args: made.append(1) or build(*args))
    return made


def test_a_second_start_decodes_nothing(root, builds):
    first, second = (folder(root).load("test") for _ in range(2))
    assert torch.equal(first.items, second.items)
    assert first.example_names == second.example_names
    assert len(builds) == 1


@pytest.mark.parametrize("change", ["added", "removed", "touched", "locked", "renamed"])
def test_a_change_of_files_decodes_again_and_removes_the_old_cache(change, root, builds):
    folder(root).load("test")
    before, file = caches(root), root / "class 00" / "class 00 000.png"
    if change == "added":
        write_files(root, {"class 00/new.png": png(9, 9)})
    elif change == "removed":
        file.unlink()
    elif change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "locked":
        file.chmod(0)
    else:
        file.rename(file.with_name("other.png"))
    folder(root, on_bad_file="skip").load("test")
    assert len(builds) == 2
    assert len(caches(root)) == len(before) == 1
    assert caches(root) != before


def test_settings_have_caches_of_their_own(root, builds):
    for settings in ({}, {"size": 20}, {"fit": "pad"}, {"store": "encoded"}):
        folder(root, **settings).load("test")
    assert (len(builds), len(caches(root))) == (4, 4)
    folder(root, shots=2, seed=4, splits="seed", store="mmap").load("train")
    assert len(builds) == 4


def test_a_moved_data_set_keeps_its_cache(root, builds):
    folder(root).load("test")
    root.rename(root.with_name("elsewhere"))
    folder(root.with_name("elsewhere")).load("test")
    assert len(builds) == 1


@pytest.mark.parametrize("damage", ["shorter", "no index", "text for index", "no pixels"])
def test_a_damaged_cache_is_made_again(damage, root, builds):
    expected = folder(root).load("test").items
    path = root / "metalit-cache" / caches(root)[0]
    if damage == "shorter":
        os.truncate(path / "pixels.bin", 100)
    elif damage == "no pixels":
        (path / "pixels.bin").unlink()
    elif damage == "no index":
        (path / "index.json").unlink()
    else:
        (path / "index.json").write_text("[]")
    assert torch.equal(folder(root).load("test").items, expected)
    assert (len(builds), len(caches(root))) == (2, 1)


def test_a_failed_build_leaves_nothing(root, monkeypatch):
    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("metalit.data.images.building.Decoder.write", fail)
    with pytest.raises(OSError, match="No space left"):
        folder(root, decoders=1).load("test")
    assert caches(root) == []


def builder(path, *, killed):
    """Start a process that makes a folder, and is killed or waits to be."""
    if process := os.fork():
        return process
    try:
        with atomic_folder(path, lambda: False) as unfinished:
            (unfinished / "pixels.bin").touch()
            os.kill(os.getpid(), signal.SIGKILL if killed else signal.SIGSTOP)
    finally:
        os._exit(1)


@pytest.mark.skipif(sys.platform != "linux", reason="stops and watches processes")
def test_what_a_killed_build_leaves_is_removed_by_the_next(root):
    """And what a build leaves alone that still runs, or runs on another machine."""
    path = root / "metalit-cache" / "images-0"
    os.waitpid(builder(path, killed=True), 0)
    (killed,) = caches(root)
    elsewhere = re.sub(r"\.\w{12}-", ".0123456789ab-", killed)
    (path.parent / elsewhere).mkdir()
    os.waitpid(process := builder(path, killed=False), os.WUNTRACED)
    try:
        (running,) = {name for name in caches(root) if f"-{process}-" in name}
        folder(root).load("test")
        assert {running, elsewhere} < set(caches(root))
        assert len(caches(root)) == 3
        assert killed not in caches(root)
    finally:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def test_a_folder_that_cannot_be_written_is_a_setting(root):
    root.chmod(0o555)
    try:
        with pytest.raises(SettingError) as error:
            folder(root).load("test")
        assert error.value.name == "cache_dir"
    finally:
        root.chmod(0o755)
    (root.parent / "file").touch()
    for place in ("file", "file/cache"):
        with pytest.raises(SettingError) as error:
            folder(root, cache_dir=str(root.parent / place)).load("test")
        assert error.value.name == "cache_dir"
    assert len(folder(root, cache_dir=str(root.parent / "cache")).load("test").items) == 30


def test_two_data_sets_share_a_folder_of_caches(root, tmp_path, builds):
    other = shutil.copytree(root, tmp_path / "other")
    for each in (root, other, root):
        folder(each, cache_dir=str(tmp_path / "cache")).load("test")
    assert len(builds) == 2


def test_processes_that_start_together_all_succeed(root):
    with ThreadPoolExecutor(4) as threads:
        stores = list(threads.map(lambda _: folder(root, decoders=1).load("test"), range(4)))
    assert all(torch.equal(store.items, stores[0].items) for store in stores)
    assert len(caches(root)) == 1


def test_several_processes_decode_the_same(root, monkeypatch):
    expected = folder(root, decoders=1).load("test")
    shutil.rmtree(root / "metalit-cache")
    monkeypatch.setattr("metalit.data.images.building.FEW", 0)
    monkeypatch.setattr("metalit.data.images.building.CHUNK", 4)
    write_files(root, {"class 00/bad.png": b"bad"})
    store = folder(root, decoders=2, on_bad_file="skip").load("test")
    assert torch.equal(store.items, expected.items)


@pytest.mark.parametrize("store", ["mmap", "encoded"])
def test_stores_in_files_equal_those_in_memory(store, root):
    write_files(root, {"class 03/bad.png": b"bad"})
    memory, other = (folder(root, store=kind, on_bad_file="skip").load("test") for kind in ("memory", store))
    assert isinstance(memory.items, torch.Tensor)
    assert isinstance(other.items, Examples)
    assert other.items.shape == memory.items.shape
    rows = torch.tensor([[29, 0, 0], [7, 16, 3]])
    assert torch.equal(other.take(rows), memory.take(rows))
    assert torch.equal(other.items[4], memory.items[4])
    assert torch.equal(other.items[3:9], memory.items[3:9])
    for each in (pickle.loads(pickle.dumps(other)), copy.deepcopy(other), other.to(torch.device("meta"))):
        assert torch.equal(each.take(rows), memory.take(rows))
    assert len(other.take(torch.empty(0, dtype=torch.int64))) == 0


def test_episodes_from_files_equal_those_in_memory(root):
    one, two, three = (folder(root, store=store).episodes("test", 5, 3) for store in ("memory", "mmap", "encoded"))
    assert torch.equal(one.query.x, two.query.x)
    assert torch.equal(one.query.x, three.query.x)


def test_memory_is_spared_if_images_do_not_fit(root, monkeypatch):
    monkeypatch.setattr("metalit.data.images.image_folder.memory_limit", lambda: 30 * 3 * 16 * 16 * 4)
    assert isinstance(folder(root).load("test").items, Examples)
    monkeypatch.setattr("metalit.data.images.image_folder.memory_limit", lambda: 30 * 3 * 16 * 16 * 4 + 4)
    assert isinstance(folder(root).load("test").items, torch.Tensor)


def test_objects_without_files_stay_in_memory(root):
    dataset = type("Arrays", (), {"targets": [0], "__len__": lambda self: 1})()
    with pytest.raises(SettingError) as error:
        folder(root, dataset=dataset, store="mmap").load("test")
    assert error.value.name == "store"


def test_encoded_examples_name_a_bad_file():
    data = [png(1), b"bad", png(2)]
    offsets = np.cumsum([0, *map(len, data)])
    examples = EncodedExamples(np.frombuffer(b"".join(data), np.uint8), offsets, Resize(8), ["a", "b", "c"])
    assert examples.index_select(0, torch.tensor([2, 0])).shape == (2, 3, 8, 8)
    with pytest.raises(UserError, match=r"^b: it is not a whole image"):
        examples.index_select(0, torch.tensor([0, 1]))


def test_image_completion_takes_pixels_from_memory_only(root):
    data = ImageCompletion(images=folder(root, store="mmap"), shots=3, queries=3)
    with pytest.raises(SettingError):
        data.episodes("test")
    data = ImageCompletion(images=folder(root, store="memory"), shots=3, queries=3)
    assert data.episodes("test").query.y.shape[-1] == 3
