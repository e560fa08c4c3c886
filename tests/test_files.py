"""Files are whole or not there; an old one stays."""

import pytest

from metalit.files import atomic_write, keep_old, write_csv, write_text


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a" / "results.json"
    write_text(path, "old")
    with pytest.raises(TypeError), atomic_write(path) as file:
        file.writelines([b"half a fi", None])
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "x"
    write_text(path, "old")
    with atomic_write(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"


def test_two_writers_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "x"
    with atomic_write(path) as one, atomic_write(path) as other:
        one.write(b"one")
        other.write(b"other")
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]


def test_write_csv_quotes(tmp_path):
    write_csv(tmp_path / "x.csv", [["class", "rate"], ["a, b", 0.5], ["Ä", 1]])
    assert (tmp_path / "x.csv").read_bytes().decode() == 'class,rate\r\n"a, b",0.5\r\nÄ,1\r\n'


def test_kept_files_of_one_call_share_their_number(tmp_path):
    (tmp_path / "a-1.json").write_text("older")
    for name in ("a.json", "b.csv"):
        (tmp_path / name).write_text(name)
    keep_old(tmp_path / "a.json", tmp_path / "b.csv")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "a-1.json": "older",
        "a-2.json": "a.json",
        "b-2.csv": "b.csv",
    }


def test_keep_old_counts_on(tmp_path):
    for content in "abc":
        keep_old(tmp_path / "x.csv")
        (tmp_path / "x.csv").write_text(content)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "x.csv": "c",
        "x-1.csv": "a",
        "x-2.csv": "b",
    }


def test_a_read_only_folder_is_named_with_the_reason(tmp_path):
    (tmp_path / "fixed").mkdir()
    (tmp_path / "fixed").chmod(0o555)
    with pytest.raises(PermissionError) as raised:
        write_text(tmp_path / "fixed" / "x", "text")
    assert (raised.value.strerror, raised.value.filename) == ("Permission denied", str(tmp_path / "fixed"))
