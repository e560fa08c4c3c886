"""Which files of a folder are images, and what becomes of them."""

import os
import unicodedata

import pytest
import torch
from PIL import Image

from metalit.data.images import Resize, find_images, read_labelled, read_unlabelled
from metalit.errors import UserError


def write(root, *names, colour="red"):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), colour).save(root / name, "PNG")


def test_images_are_found_by_suffix_at_any_depth(tmp_path):
    write(tmp_path, "b/2.PNG", "b/deep/1.JpG", "a/x.webp", "a/._x.png", ".hidden/1.png", "metalit-cache/1.png")
    for name in ("a/.DS_Store", "a/Thumbs.db", "a/notes.txt"):
        (tmp_path / name).write_text("no image")
    assert [image.name for image in find_images(tmp_path).images] == ["a/x.webp", "b/2.PNG", "b/deep/1.JpG"]
    assert find_images(tmp_path).bad == []


def test_names_are_composed(tmp_path):
    write(tmp_path, f"{unicodedata.normalize('NFD', 'café')}/{unicodedata.normalize('NFD', 'ü')}.png")
    assert [image.name for image in find_images(tmp_path).images] == [unicodedata.normalize("NFC", "café/ü.png")]


def test_links_are_followed_and_circles_end(tmp_path):
    write(tmp_path / "elsewhere", "1.png")
    write(tmp_path / "root", "a/1.png")
    root = tmp_path / "root"
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "2.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    (root / "a" / "again").symlink_to(root)
    (root / "a" / "self.png").symlink_to(root / "a" / "self.png")
    (root / "a" / "gone.png").symlink_to(root / "nowhere.png")
    found = find_images(root)
    assert [image.name for image in found.images] == ["a/1.png", "a/2.png", "b/1.png"]
    assert {name: "leads" in reason for name, reason in found.bad} == dict.fromkeys(
        ["a/again", "a/self.png", "a/gone.png"], True
    )


def test_what_is_no_readable_file_is_named(tmp_path):
    write(tmp_path, "a/1.png", "a/iphone.heic", "locked/1.png")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "locked").chmod(0)
    try:
        bad = dict(find_images(tmp_path).bad)
    finally:
        (tmp_path / "locked").chmod(0o755)
    assert list(bad) == ["a/iphone.heic", "a/pipe.png", "locked"]
    assert "save it as JPEG" in bad["a/iphone.heic"]


def test_labelled_images_are_sorted_by_class_and_name(tmp_path):
    write(tmp_path, "a/2.png", "a b/1.png", "a/deep/1.png", colour="blue")
    photos = read_labelled(tmp_path, Resize(8))
    assert list(photos.names) == ["a/2.png", "a/deep/1.png", "a b/1.png"]
    assert list(photos.labels) == ["a", "a", "a b"]
    assert (photos.images.shape, photos.images.dtype) == ((3, 3, 8, 8), torch.uint8)
    assert photos.images[:, :, 4, 4].tolist() == [[0, 0, 255]] * 3


def test_bad_files_are_refused_all_at_once_or_left_out(tmp_path):
    write(tmp_path, "a/1.png", "stray.png")
    (tmp_path / "a" / "2.png").write_text("no image")
    with pytest.raises(UserError) as error:
        read_labelled(tmp_path, Resize(8))
    assert "2 images" in str(error.value)
    assert "a/2.png: it is not a whole image" in str(error.value)
    assert "stray.png: it lies in no folder" in str(error.value)
    photos = read_labelled(tmp_path, Resize(8), "skip")
    assert list(photos.names) == ["a/1.png"]
    assert [name for name, _ in photos.bad] == ["a/2.png", "stray.png"]


def test_unlabelled_images_come_from_a_folder_or_in_the_order_of_a_list(tmp_path):
    write(tmp_path, "b.png", "deep/a.png", "photo_without_suffix")
    assert list(read_unlabelled(tmp_path, Resize(8)).names) == ["b.png", "deep/a.png"]
    files = [tmp_path / "photo_without_suffix", tmp_path / "b.png"]
    assert list(read_unlabelled(files, Resize(8)).names) == [str(file) for file in files]
    assert list(read_unlabelled(files[1], Resize(8)).names) == [str(files[1])]


def test_nothing_to_read_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="nowhere"):
        find_images(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png"):
        read_unlabelled([tmp_path / "nowhere.png"], Resize(8))
    for read in (read_labelled, read_unlabelled):
        with pytest.raises(UserError, match=r"no images in .*empty"):
            read(tmp_path / "empty", Resize(8))
