"""What is wrong with files of texts is one message that names the file, the line and the reason."""

import re
import time

import pytest

from metalit.data import TextClasses
from metalit.data.texts import HashedWords
from metalit.errors import UserError
from metalit.main import main
from miniature_texts import rows_of_classes, write_csv, write_jsonl

SMALL = {"ways": 2, "shots": 1, "queries": 2, "splits": "test"}
GOOD = rows_of_classes(3, 4)


def classes(root, **settings):
    return TextClasses(root=str(root), **{**SMALL, "tokenizer": HashedWords(), **settings})


def table(*more, header="text,label"):
    """A writer of a table with good rows, these in line 14 and so on."""

    def write(root):
        lines = [header, *(f"{row['text']},{row['label']}" for row in GOOD), *more]
        (root / "a.csv").write_bytes(b"\n".join(each.encode() if isinstance(each, str) else each for each in lines))

    return write


def json_lines(*more):
    def write(root):
        write_jsonl(root / "a.jsonl", GOOD)
        with (root / "a.jsonl").open("a") as file:
            file.writelines(f"{line}\n" for line in more)

    return write


def empty(name):
    return lambda root: (root / name).write_bytes(b"")


def utf_16(root):
    table()(root)
    (root / "a.csv").write_text((root / "a.csv").read_text(), encoding="utf-16")


BAD = {
    "empty text": (table(" ,class 0"), r"a\.csv:14: its text is empty"),
    "no label": (table("hello,"), r"a\.csv:14: its label is ''"),
    "label missing from the line": (table("hello"), r"a\.csv:14: its label is None"),
    "two classes": (
        table("hello,class 0", "hello,class 1"),
        r"a\.csv:15: its text is in class class 1, and in class class 0 too \(a\.csv:14\)",
    ),
    "latin-1": (table("café,class 0".encode("latin-1")), r"a\.csv, line 14: it is not text in UTF-8 \(found 0xe9\)"),
    "utf-16": (utf_16, r"a\.csv, line 1: it is not text in UTF-8"),
    "NUL": (table("a\0b,class 0"), r"a\.csv:14: its text has a NUL"),
    "missing column": (table(header="words,label"), r"a\.csv: it has no column for the text, only words, label"),
    "unknown split": (table(header="text,split"), r"a\.csv:2: 'class 0' is no split|no column for the label"),
    "huge field": (table(f"{'a' * 200_000},class 0"), r"a\.csv, line 14: it is not CSV \(field larger"),
    "open quote": (table('"open,class 0', "more,class 1"), r"a\.csv, lines 14 to 15: it is not CSV"),
    "open quote, closed later": (
        table('"open,class 0', "more,class 1", '"close,class 2'),
        r"a\.csv, lines 14 to 16: it is not CSV",
    ),
    "two columns of one name": (table(header="text,label,text"), r"a\.csv: it has two columns called text"),
    "nothing to see": (table("\u200b\u200d,class 0"), r"a\.csv:14: its text is '\\u200b\\u200d', in which nothing"),
    "half an emoji": (json_lines(r'{"text": "a \ud83d", "label": "b"}'), r"a\.jsonl:13: its text has half a character"),
    "half an emoji as label": (json_lines(r'{"text": "a", "label": "\ud83d"}'), r"a\.jsonl:13: its label has half a"),
    "long list as text": (
        json_lines(f'{{"text": {[0] * 1000}, "label": "b"}}'),
        r"a\.jsonl:13: its text is \[0, .*\.\.\.",
    ),
    "long list as label": (json_lines(f'{{"text": "a", "label": {[0] * 1000}}}'), r"a\.jsonl:13: its label is \[0, "),
    "broken JSON": (json_lines('{"text": "a", '), r"a\.jsonl, line 13: it is not JSON"),
    "JSON of a list": (json_lines("[1, 2]"), r"a\.jsonl, line 13: it is not a JSON object"),
    "JSON of a number as text": (json_lines('{"text": 3, "label": "class 0"}'), r"a\.jsonl:13: its text is 3"),
    "JSON of a list as label": (json_lines('{"text": "a", "label": ["b"]}'), r"a\.jsonl:13: its label is \['b'\]"),
    "empty table": (empty("a.csv"), r"a\.csv: it has no rows"),
    "empty JSON lines": (empty("a.jsonl"), r"a\.jsonl: it has no rows"),
    "empty parquet": (empty("a.parquet"), r"a\.parquet: it is not a whole parquet file"),
    "folder without tables": (empty("a.txt"), r"root.*\.csv, \.tsv, \.jsonl, \.parquet.*it has a\.txt"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_message_names_the_place(name, tmp_path):
    write, message = BAD[name]
    if "parquet" in name:
        pytest.importorskip("pyarrow")
    write(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        classes(tmp_path).listing()
    assert len(str(caught.value)) < 600
    assert not (tmp_path / "metalit-cache").exists()


def test_all_bad_rows_are_in_one_message(tmp_path):
    table(",class 0", "hello,", *[f",class {number}" for number in range(20)])(tmp_path)
    with pytest.raises(UserError, match=r"22 rows cannot be used: a\.csv:14: .*; a\.csv:15: .*and 12 more; correct"):
        classes(tmp_path).listing()


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    write_csv(tmp_path / "a.csv", GOOD)
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    assert len(classes(tmp_path).listing().entries) == 12


def test_a_text_of_100_000_characters_is_cut_and_counted(tmp_path):
    write_csv(tmp_path / "a.csv", [*GOOD, {"text": "word " * 20_000, "label": "class 0"}])
    begun = time.monotonic()
    data = classes(tmp_path)
    assert data.episodes("test", 0, 50).query.x.ids.shape[-1] <= 64
    assert time.monotonic() - begun < 2
    assert data.setting()["texts_cut"] == 1


def test_names_of_examples_are_short(tmp_path):
    write_csv(tmp_path / "a.csv", [*GOOD, {"text": "word " * 20_000, "label": "class 0"}])
    assert max(len(entry.name) for entry in classes(tmp_path).listing().entries) < 100


def test_two_columns_of_one_name_in_parquet(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pa.table([["a"], ["b"], ["c"]], names=["text", "label", "label"]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=r"a\.parquet: it has two columns called label"):
        classes(tmp_path).listing()


def test_joiners_inside_a_text_are_left_to_it(tmp_path):
    table("\U0001f469\u200d\U0001f680,class 0", "می\u200cخواهم,class 1")(tmp_path)
    assert "\U0001f469\u200d\U0001f680" in [entry.text for entry in classes(tmp_path).listing().entries]


@pytest.mark.service
@pytest.mark.parametrize("name", ["empty text", "latin-1", "missing column", "two classes", "folder without tables"])
def test_through_the_command_line(name, tmp_path, capsys, monkeypatch):
    write, message = BAD[name]
    (tmp_path / "texts").mkdir()
    write(tmp_path / "texts")
    monkeypatch.chdir(tmp_path)
    args = [
        "fit", "--run_dir", "run", "--model", "PrototypicalNetwork", "--model.network", "TextTransformer",
        "--model.network.vocabulary", "100", "--model.network.width", "8", "--data", "TextClasses",
        "--data.root", "texts", "--trainer.accelerator", "cpu", "--trainer.enable_progress_bar", "false",
        "--trainer.max_steps", "1",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert re.search(message, error.replace("\n", " "))
