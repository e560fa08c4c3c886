"""What is wrong with files is one message that names the file and the reason, and nothing is half-written."""

import io
import json
import os
import struct
import tarfile
import zlib

import pytest
from PIL import Image

from metalit.data import ImageFolder
from metalit.errors import UserError
from metalit.main import main
from pictures import add, png, write_files, write_flat


def folder(root, **settings):
    defaults = {"size": 16, "ways": 2, "shots": 1, "queries": 2, "decoders": 1, "splits": "test"}
    return ImageFolder(root=str(root), **{**defaults, **settings})


def huge(width, height):
    """A PNG file of a few bytes that says it is this large."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(b""))]
    made = [struct.pack(">I", len(c)) + kind + c + struct.pack(">I", zlib.crc32(kind + c)) for kind, c in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def bomb():
    """100 KB that unpack to 12 000 x 13 000 pixels."""
    file = io.BytesIO()
    Image.new("1", (12_000, 13_000)).save(file, "PNG")
    return file.getvalue()


def jpeg():
    file = io.BytesIO()
    Image.effect_noise((60, 60), 50).save(file, "JPEG")
    return file.getvalue()


def in_class(name, content):
    def write(root):
        write_files(write_flat(root, 3, 4), {f"class 00/{name}": content() if callable(content) else content})
        return f"class 00/{name}"

    return write


def link_in_a_circle(root):
    (write_flat(root, 3, 4) / "class 00" / "loop").symlink_to(root)
    return "class 00/loop"


def link_to_nothing(root):
    (write_flat(root, 3, 4) / "class 00" / "gone.png").symlink_to(root / "nothing.png")
    return "class 00/gone.png"


def pipe(root):
    os.mkfifo(write_flat(root, 3, 4) / "class 00" / "pipe.png")
    return "class 00/pipe.png"


def unreadable(root):
    in_class("locked.png", png(99))(root)
    (root / "class 00" / "locked.png").chmod(0)
    return "class 00/locked.png"


def unreadable_folder(root):
    write_files(write_flat(root, 3, 4), {"locked/1.png": png(99)})
    (root / "locked").chmod(0)
    return "locked"


def stray(root):
    write_files(write_flat(root, 3, 4), {"stray.png": png(99)})
    return "stray.png"


def in_two_classes(root):
    write_files(write_flat(root, 3, 4), {"class 00/twin.png": png(99), "class 01/other.png": png(99)})
    return "class 01/other.png"


def class_in_two_splits(root):
    write_files(root, {"train/cat/1.png": png(1), "test/cat/2.png": png(2)})
    return "train/cat/1.png"


def table(*lines, name="labels.csv", where=None, outside=False):
    def write(root):
        write_files(root, {"a.png": png(1), "b.png": png(2)})
        if outside:
            write_files(root.parent, {"outside.png": png(3)})
        (root / name).write_bytes("\n".join(lines).format(parent=root.parent).encode("latin-1"))
        return where

    return write


def tar(*members, cut=None, where=None, links=()):
    def write(root):
        root.mkdir()
        with tarfile.open(root / "a.tar", "w") as archive:
            for name, content in members:
                add(archive, name, content)
            for name, target in links:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, target
                archive.addfile(link)
        if cut:
            (root / "a.tar").write_bytes((root / "a.tar").read_bytes()[:cut])
        return where

    return write


def parquet(content=None, **columns):
    def write(root):
        root.mkdir()
        if content is None:
            import pyarrow as pa
            import pyarrow.parquet as pq

            pq.write_table(pa.table(columns), root / "a.parquet")
        else:
            (root / "a.parquet").write_bytes(content)
        return "a.parquet"

    return write


HOSTILE = {
    "empty file": (in_class("x.png", b""), "0 bytes"),
    "truncated png": (in_class("x.png", lambda: png(5)[:400]), "damaged"),
    "truncated jpeg": (in_class("x.jpg", lambda: jpeg()[:900]), "truncated"),
    "text named jpg": (in_class("x.jpg", b"hello"), "not a whole image"),
    "page named png": (in_class("x.png", b"<!DOCTYPE html><html>404</html>"), "not a whole image"),
    "program in postscript": (in_class("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n"), "not a whole image"),
    "huge header": (in_class("x.png", huge(30_000, 30_000)), "pixels"),
    "decompression bomb": (in_class("x.png", bomb), "12000x13000 pixels"),
    "photo of a telephone": (in_class("x.HEIC", b"ftypheic"), "save it as JPEG"),
    "link in a circle": (link_in_a_circle, "leads to a folder that is read already"),
    "link to nothing": (link_to_nothing, "leads nowhere"),
    "named pipe": (pipe, "not a regular file"),
    "unreadable file": (unreadable, "Permission denied"),
    "unreadable folder": (unreadable_folder, "Permission denied"),
    "image in no class": (stray, "no folder of a class"),
    "image in two classes": (in_two_classes, "the same image is in class"),
    "class in two splits": (class_in_two_splits, "in two splits"),
    "table leads out": (
        table("file,label", "../outside.png,x", where="labels.csv, line 2", outside=True), "lies outside",
    ),
    "table leads out absolutely": (
        table("file,label", "{parent}/outside.png,x", where="labels.csv, line 2", outside=True), "lies outside",
    ),
    "table of missing files": (table("file,label", "c.png,x", where="labels.csv, line 2"), "there is no file c.png"),
    "table with two labels": (table("file,label", "a.png,x", "a.png,y", where="labels.csv, line 3"), "two labels"),
    "table without labels": (table("file,label", "a.png,", where="labels.csv, line 2"), "its label is ''"),
    "table in another encoding": (table("file,label", "a.png,\xe9", where="labels.csv"), "not text in UTF-8"),
    "table that is no json": (table("file", name="labels.jsonl", where="labels.jsonl, line 1"), "not JSON"),
    "tar leads out": (tar(("../../x.png", png(1)), where="a.tar/../../x.png"), "leads out of the shard"),
    "tar with a link": (tar(("x.cls", b"1"), links=[("x.png", "/etc/passwd")], where="a.tar/x.png"), "regular file"),
    "tar without labels": (tar(("x.png", png(1)), where="a.tar/x.png"), "no label"),
    "truncated tar": (tar(("x.png", png(1)), ("x.cls", b"1"), cut=700, where="a.tar"), "tar"),
    "damaged parquet": (parquet(b"PAR1 nonsense"), "not a whole parquet file"),
    "parquet without images": (parquet(image=[b"x"], label=[[1, 2]]), "its label is [1, 2]"),
}  # fmt: skip


NETWORK = {"class_path": "Conv4", "init_args": {"in_channels": 3, "image_size": 16, "channels": 2}}
MODEL = json.dumps({"class_path": "PrototypicalNetwork", "init_args": {"network": NETWORK}})
TEST = ["test", "--model", MODEL, "--data", "ImageFolder", "--data.size", "16", "--data.decoders", "1",
        "--data.ways", "2", "--data.queries", "2"]  # fmt: skip


@pytest.fixture
def unlocked(tmp_path):
    """pytest cannot remove what is locked."""
    yield tmp_path
    for each in (tmp_path / "root").rglob("locked*"):
        each.chmod(0o755)


@pytest.mark.parametrize("name", HOSTILE)
def test_one_message_names_the_file_and_the_reason_and_the_command_line_ends_with_code_2(name, unlocked, capsys):
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    write, why = HOSTILE[name]
    root = unlocked / "root"
    where = write(root)
    splits = "auto" if name == "class in two splits" else "test"
    with pytest.raises(UserError) as error:
        folder(root, splits=splits).load("test")
    message = str(error.value)
    assert where in message
    assert why in message
    assert len(message.splitlines()) == 1
    with pytest.raises(SystemExit) as stop:
        main([*TEST, "--data.root", str(root), "--data.splits", splits, "--run_dir", str(unlocked / "run")])
    assert stop.value.code == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].startswith("error: ")
    assert " ".join(message.split()) in said
    assert "Traceback" not in said
    cache = root / "metalit-cache"
    assert not cache.exists() or not [each for each in cache.iterdir() if each.name.startswith((".", "images"))]


def test_bad_files_are_left_out_if_asked_and_results_say_how_many(tmp_path):
    in_class("x.png", b"")(tmp_path)
    in_class("y.jpg", b"hello")(tmp_path)
    in_two_classes(tmp_path)
    stray(tmp_path)
    data = folder(tmp_path, on_bad_file="skip")
    store = data.load("test")
    assert store.class_sizes.tolist() == [4, 4, 4]
    assert data.setting()["bad_files_left_out"] == 5
    (table_of_them,) = (tmp_path / "metalit-cache").glob("images-*/left-out.csv")
    assert len(table_of_them.read_text().splitlines()) == 1 + 5
    again = folder(tmp_path, on_bad_file="skip")
    assert list(again.load("test").example_names) == list(store.example_names)
    assert again.setting()["bad_files_left_out"] == 5
    (tmp_path / "stray.png").unlink()
    with pytest.raises(UserError, match=r"^4 images cannot be used: .* class 00/x\.png: the file is empty"):
        folder(tmp_path).load("test")
