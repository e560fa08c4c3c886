"""``predict --support`` on tables of texts: every form of file, labels of the query, and the mistakes."""

import csv
import json

import numpy as np
import pytest

from commands import complaint
from metalit.inference import Recogniser, TrainedModel
from metalit.main import main
from miniature_texts import rows_of_intents, write_csv, write_jsonl, write_parquet

OWN = ["renew card", "renew loan", "order passport"]


@pytest.fixture(autouse=True)
def few_episodes(monkeypatch):
    monkeypatch.setattr("metalit.commands.use.EPISODES", 10)


def own_rows(first=0, last=12):
    """Rows of three intents of the user's; the first five texts of each are to learn from."""
    rows = rows_of_intents(OWN)
    return [row for number, row in enumerate(rows) if first <= number % 12 < last]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with ``support.csv`` and ``query.csv``, whose labels are known."""
    write_csv(tmp_path / "support.csv", own_rows(0, 5))
    write_csv(tmp_path / "query.csv", own_rows(5))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def predict(run, place, *options, query="query.csv", support="support.csv"):
    given = ["--run_dir", run, "--support", place / support, "--query", place / query, "--to", place / "out"]
    main(["predict", *map(str, given), *options])


def predictions(place):
    with (place / "out" / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_table_has_the_texts_and_what_is_recognised(text_run, place, capsys):
    predict(text_run, place)
    said = " ".join(capsys.readouterr().out.split())
    rows, texts = predictions(place), [row["text"] for row in own_rows(5)]
    columns = ["text", "prediction", "known", "confidence", "most_likely", *(f"P({name})" for name in sorted(OWN))]
    assert list(rows[0]) == columns
    assert [row["text"] for row in rows] == texts
    learned = own_rows(0, 5)
    model = TrainedModel.of_run(text_run)
    labels = [row["label"] for row in learned]
    recogniser = Recogniser.learn(model, [row["text"] for row in learned], labels)
    ((key, kept),) = json.loads((text_run / "calibration.json").read_text()).items()
    warmed = recogniser.logits(texts) / kept["temperature"]
    found = [[float(row[f"P({name})"]) for name in sorted(OWN)] for row in rows]
    np.testing.assert_allclose(found, warmed.softmax(-1), atol=1e-6)
    assert len(key) == 64
    true = [row["label"] for row in own_rows(5)]
    right = [row["most_likely"] == label for row, label in zip(rows, true, strict=True)]
    known = sum(each and row["known"] == "yes" for each, row in zip(right, rows, strict=True))
    right = sum(right)
    assert f"Accuracy {right / 21:.3f}: the most likely class is right for {right} of 21 texts" in said
    assert f"{known} of them are taken for known" in said
    assert "with pictures" not in said
    assert not (place / "out" / "predictions.png").exists()


def tsv(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))


def txt(path, rows):
    path.write_text("\ufeff" + "\r\n".join(row["text"] for row in rows) + "\r\n\r\n", encoding="utf-8")


def unlabelled_csv(path, rows):
    write_csv(path, [{"utterance": row["text"]} for row in rows])


def txt_of_old_macs(path, rows):
    txt(path, rows)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))


WRITERS = {"a.tsv": tsv, "a.jsonl": write_jsonl, "a.parquet": write_parquet, "a.txt": txt}
WRITERS |= {"mac.txt": txt_of_old_macs, "a.csv": unlabelled_csv}


@pytest.mark.parametrize("name", WRITERS)
def test_every_form_of_file_gives_the_same_predictions(name, text_run, place, capsys):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    predict(text_run, place)
    expected = predictions(place)
    labelled = name not in ("a.txt", "mac.txt", "a.csv")
    if labelled:
        WRITERS[name](place / f"support-{name}", own_rows(0, 5))
    WRITERS[name](place / name, own_rows(5))
    capsys.readouterr()
    predict(text_run, place, query=name, support=f"support-{name}" if labelled else "support.csv")
    assert predictions(place) == expected
    assert ("Accuracy" in capsys.readouterr().out) == labelled


def test_unusual_columns(text_run, place):
    predict(text_run, place)
    expected = predictions(place)
    for name, rows in (("support.csv", own_rows(0, 5)), ("query.csv", own_rows(5))):
        write_csv(place / name, [{"topic": row["label"], "body": row["text"]} for row in rows])
    predict(text_run, place, "--columns", "{text: body, label: topic}")
    assert predictions(place) == expected


def test_labels_that_were_not_learned_are_strangers(text_run, place, capsys):
    strangers = [{"text": "nobody knows this", "label": "chat"}, {"text": "renew card", "label": ""}]
    write_csv(place / "query.csv", own_rows(5, 6) + strangers)
    predict(text_run, place, "--threshold", "0")
    said = " ".join(capsys.readouterr().out.split())
    assert "of 3 texts with a label of these classes" in said
    assert "Taken for none of these: 0 of 1 texts with other labels" in said
    assert len(predictions(place)) == 5


def test_a_text_in_both_sets_is_reported(text_run, place, capsys):
    write_csv(place / "query.csv", own_rows(4))
    predict(text_run, place)
    said = " ".join(capsys.readouterr().out.split())
    assert f"3 texts of --query stand in --support too, word for word: {own_rows(4, 5)[0]['text']!r}, " in said
    assert len(predictions(place)) == 24


def test_cut_texts_and_blank_lines_are_counted(text_run, place, capsys):
    long = " ".join(["card"] * 300)
    write_csv(place / "support.csv", [*own_rows(0, 5), {"text": long, "label": OWN[0]}])
    (place / "query.txt").write_text(f"renew card\n\n{long}\r\n \t\n{long} loan\n\n\nrenew loan\n")
    predict(text_run, place, query="query.txt")
    said = " ".join(capsys.readouterr().out.split())
    assert "query.txt: 4 blank lines are left out: 2, 4, 6, ..." in said
    limit = TrainedModel.of_run(text_run).form.max_length
    assert f"query.txt: 2 of 4 texts are longer than {limit} tokens" in said
    assert f"support.csv: 1 of 16 texts is longer than {limit} tokens; the rest is cut off" in said
    assert len(predictions(place)) == 4
    (place / "query.txt").write_text("renew card\n\nrenew loan")
    predict(text_run, place, query="query.txt")
    said = " ".join(capsys.readouterr().out.split())
    assert "query.txt: line 2 is blank and left out" in said
    assert "query.txt: 2 of" not in said


def test_the_help_of_predict_is_about_own_files(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["predict", "--help"])
    assert ended.value.code == 0
    assert "--support" in capsys.readouterr().out


def test_the_table_is_written_into_a_folder(text_run, place, capsys):
    said = complaint(capsys, lambda: predict(text_run, place, "--to", "mine.csv"))
    assert "to is mine.csv, expected a folder: predictions.csv is written into it" in said
    assert not (place / "mine.csv").exists()


def with_rows(*rows):
    def write(place, name):
        with (place / name).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)

    return write


def content(data):
    return lambda place, name: (place / name).write_bytes(data)


MISTAKES = [
    ("support.csv", content(b""), "support.csv: it has no rows"),
    ("support.csv", content(b"text,label\n"), "support.csv: it has no rows"),
    ("support.csv", content(b"text,about\na,b\n"), "only text, about: rename one, or say which by --columns"),
    ("query.csv", content(b"words\na\n"), "no column for the text, only words"),
    ("query.csv", content("text\ngut\ngrün\n".encode("latin-1")), "query.csv, line 3: it is not text in UTF-8"),
    ("support.csv", content(b"text,label\na,one\nb,one\n"), "has one class, one: give examples of at least two"),
    ("support.csv", with_rows(["", "renew card"]), "support.csv:17: its text is empty"),
    ("support.csv", with_rows(["what is this", ""]), "support.csv:17: its label is ''"),
    ("support.csv", with_rows([own_rows(0, 1)[0]["text"], "other"]), "support.csv:17: its text is in class other"),
    ("query.csv", with_rows(["  ", "renew card"]), "query.csv:23: its text is empty"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "write", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_mistakes_in_files(name, write, message, text_run, place, capsys):
    """One line that names file and line, and nothing is written."""
    write(place, name)
    said = complaint(capsys, lambda: predict(text_run, place))
    assert message in said
    assert not (place / "out").exists()


@pytest.mark.parametrize(("name", "row"), [("support.csv", ["", "renew card"]), ("query.csv", [" ", ""])])
def test_bad_rows_are_left_out_if_so_wished(name, row, text_run, place, capsys):
    predict(text_run, place)
    expected = predictions(place)
    with_rows(row)(place, name)
    capsys.readouterr()
    predict(text_run, place, "--on_bad_file", "skip")
    assert predictions(place) == expected
    assert f"Left out {name}:" in capsys.readouterr().out


def test_mistakes(text_run, run, place, capsys):
    def refused(message, command, *options):
        said = complaint(capsys, lambda: main([command, "--run_dir", str(text_run), *options]))
        assert message in said, said

    refused("there is no file nowhere.csv", "predict", "--support", "nowhere.csv", "--query", "query.csv")
    refused("there is no file nowhere.txt", "predict", "--support", "support.csv", "--query", "nowhere.txt")
    (place / "notes.docx").write_text("text")
    refused("notes.docx is no table of texts", "predict", "--support", "notes.docx", "--query", "query.csv")
    (place / "empty.txt").write_text("\n \n")
    refused("there are no texts in empty.txt", "predict", "--support", "support.csv", "--query", "empty.txt")
    refused("a model of texts cannot be exported", "export", "--support", "support.csv", "--to", "model.onnx")
    options = ["--support", "support.csv", "--query", "query.csv", "--columns"]
    refused("it has no column words, only text, label", "predict", *options, "{text: words}")
    refused("columns is words: text, expected columns for text, label", "predict", *options, "{words: text}")
    photos = ["predict", "--run_dir", str(run), *options, "{text: words}"]
    assert "expected none: the model was trained on photos" in complaint(capsys, lambda: main(photos))
