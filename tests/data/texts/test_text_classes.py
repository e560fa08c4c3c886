"""One's own texts: forms of files, splits of classes, and what is said about them."""

import json

import pytest

from metalit.data.texts import HashedWords, TextClasses, Words
from metalit.errors import SettingError, UserError
from miniature_texts import rows_of_classes, write_csv, write_jsonl, write_parquet

SMALL = {"ways": 2, "shots": 1, "queries": 2, "train_ways": 2}


def classes(root, **settings):
    return TextClasses(root=str(root), **{**SMALL, **settings})


def tsv(path, rows):
    path.write_text("text\tlabel\n" + "".join(f"{row['text']}\t{row['label']}\n" for row in rows))


WRITERS = {".csv": write_csv, ".tsv": tsv, ".jsonl": write_jsonl, ".parquet": write_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_form_gives_the_same_episodes(suffix, tmp_path):
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    rows = rows_of_classes(10, 6)
    WRITERS[suffix](tmp_path / f"all{suffix}", rows)
    write_csv(tmp_path / "reference.csv", rows)

    def found(name):
        data = classes(tmp_path / name)
        episode, names = data.episodes("test", 3), data.names("test", 3)
        return episode.support.x.ids.tolist(), episode.query.x.mask.tolist(), names.classes

    assert found(f"all{suffix}") == found("reference.csv")


def test_an_episode_is_pure_and_its_texts_are_those_of_its_classes(tmp_path):
    write_csv(tmp_path / "all.csv", rows_of_classes(10, 6))
    data = classes(tmp_path)
    for split in ("train", "val", "test"):
        for index in range(4):
            names = data.names(split, index)
            assert not set(names.support) & set(names.query)
            for label, name in zip((0, 1), names.support, strict=True):
                assert name.endswith(names.classes[label])  # each text ends with the name of its class
    assert not set(data.class_splits()["train"]) & set(data.class_splits()["test"])
    episode = data.episodes("train", 0, 3)
    assert episode.support.x.ids.shape[-1] % 8 == 0
    assert episode.support.x.ids.shape[-1] == episode.query.x.ids.shape[-1]
    assert (episode.query.x.mask.sum(-1) > 0).all()


def test_columns_by_usual_and_unusual_names(tmp_path):
    rows = [{"utterance": row["text"], "intent": row["label"]} for row in rows_of_classes(4, 3)]
    write_csv(tmp_path / "a.csv", rows)
    assert len(classes(tmp_path).listing().entries) == 12
    rows = [{"body": row["utterance"], "topic": row["intent"]} for row in rows]
    write_csv(tmp_path / "a.csv", rows)
    with pytest.raises(UserError, match=r"a\.csv.*text.*body, topic"):
        classes(tmp_path).listing()
    named = classes(tmp_path, columns={"text": "body", "label": "topic"})
    assert len(named.listing().entries) == 12
    with pytest.raises(SettingError, match="columns"):
        classes(tmp_path, columns={"words": "body"})


def test_files_of_splits_that_share_classes_are_put_together(tmp_path):
    for name in ("train", "test"):
        write_csv(tmp_path / f"{name}.csv", rows_of_classes(10, 3, name))
    data = classes(tmp_path)
    assert len(data.listing().entries) == 60
    assert "seed 0" in data.class_splits().rule


def test_files_of_splits_with_classes_of_their_own_divide_them(tmp_path):
    rows = rows_of_classes(6, 3)
    for at, name in enumerate(("train", "valid", "test")):
        write_jsonl(tmp_path / f"{name}.jsonl", rows[6 * at : 6 * at + 6])
    data = classes(tmp_path)
    assert data.class_splits() == {"train": ["class 0", "class 1"], "val": ["class 2", "class 3"],
                                   "test": ["class 4", "class 5"]}  # fmt: skip
    assert data.class_splits().rule == "as given by the data set"


def test_a_column_of_splits_and_lists_and_groups(tmp_path):
    rows = [{**row, "split": "test" if row["label"] > "class 3" else "train"} for row in rows_of_classes(6, 3)]
    write_csv(tmp_path / "a.csv", rows)
    assert classes(tmp_path).class_splits()["test"] == ["class 4", "class 5"]
    lists = {"train": ["class 0", "class 1"], "test": ["class 2"]}
    assert classes(tmp_path, splits=lists).class_splits() == {**lists, "val": []}
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "test.txt").write_text("class 1\nclass 0\n")
    assert classes(tmp_path, splits=str(tmp_path / "lists")).class_splits()["test"] == ["class 0", "class 1"]
    assert len(classes(tmp_path, splits="test").class_splits()["test"]) == 6
    domains = [{**row, "domain": "first" if row["label"] < "class 3" else "second"} for row in rows_of_classes(6, 3)]
    write_csv(tmp_path / "a.csv", domains)
    data = classes(tmp_path, splits="seed", split_by="group", shares=[0.5, 0.0, 0.5])
    assert sorted(map(len, data.class_splits().values())) == [0, 3, 3]


def test_classes_keep_their_split_when_others_are_added(tmp_path):
    write_csv(tmp_path / "a.csv", rows_of_classes(20, 3))
    before = classes(tmp_path).class_splits()
    write_csv(tmp_path / "a.csv", rows_of_classes(20, 3, "more words"))
    assert classes(tmp_path).class_splits() == before
    assert classes(tmp_path, split_seed=1).class_splits() != before


def test_a_label_with_too_few_texts(tmp_path):
    rows = rows_of_classes(6, 3)
    write_csv(tmp_path / "a.csv", [*rows, {"text": "alone", "label": "lonely"}])
    with pytest.raises(UserError, match=r"lonely \(1\).*small_classes"):
        classes(tmp_path, splits="test").load("test")
    data = classes(tmp_path, splits="test", small_classes="skip")
    assert "lonely" not in data.load("test").class_names
    assert data.setting()["small_classes_left_out"] == {"test": ["lonely"]}


def test_repeated_texts_are_left_out_and_counted(tmp_path, caplog):
    rows = rows_of_classes(6, 4)
    write_csv(tmp_path / "a.csv", [*rows, rows[0], {**rows[1], "text": f" {rows[1]['text']}\u00a0"}])
    data = classes(tmp_path)
    with caplog.at_level("INFO"):
        assert len(data.listing().entries) == len(rows)
        data.listing()
    assert data.setting()["repeated_texts_left_out"] == 2
    assert sum("2 left out" in record.message for record in caplog.records) == 1


def test_bad_rows_are_skipped_and_listed(tmp_path, caplog):
    rows = rows_of_classes(6, 4)
    write_csv(tmp_path / "a.csv", [{"text": "", "label": "class 0"}, *rows, {"text": "no label", "label": ""}])
    with caplog.at_level("INFO"):
        data = classes(tmp_path, on_bad_row="skip")
        assert len(data.listing().entries) == len(rows)
    assert data.setting()["bad_rows_left_out"] == 2
    assert any("a.csv:2" in record.message and "a.csv:27" in record.message for record in caplog.records)


def test_a_result_says_how_texts_were_read(tmp_path):
    rows = rows_of_classes(6, 4)
    write_csv(tmp_path / "a.csv", [*rows, {"text": "long " * 20_000 + "class 0", "label": "class 0"}])
    data = classes(tmp_path, max_length=16)
    assert data.episodes("train", 0, 20).support.x.ids.shape[-1] <= 16
    setting = json.loads(json.dumps(data.setting()))
    assert (setting["tokenizer"], setting["max_length"], setting["texts"], setting["texts_cut"]) == ("Words", 16, 25, 1)
    assert setting["vocabulary"] == len(data.fitted_tokenizer().words) + 2
    assert setting["classes"] == {"train": 4, "val": 1, "test": 1}


def test_the_vocabulary_is_that_of_the_training_classes(tmp_path):
    write_csv(
        tmp_path / "a.csv", [{**row, "text": f"{row['text']} {row['label'][6:]}x"} for row in rows_of_classes(6, 4)]
    )
    data = classes(tmp_path, splits={"train": ["class 0", "class 1"], "test": ["class 4", "class 5"]})
    data.episodes("test")
    assert {"0x", "1x"} <= set(data.fitted_tokenizer().words)
    assert not {"4x", "5x"} & set(data.fitted_tokenizer().words)
    alone = classes(tmp_path, splits="test")
    with pytest.raises(UserError, match="HashedWords"):
        alone.episodes("test")
    assert classes(tmp_path, splits="test", tokenizer=HashedWords()).episodes("test")


def test_tokens_come_from_the_cache_until_something_changes(tmp_path, monkeypatch):
    write_csv(tmp_path / "a.csv", rows_of_classes(6, 4))
    calls = []
    located = Words.located
    monkeypatch.setattr(Words, "located", lambda self, *args: calls.append(1) or located(self, *args))
    first = classes(tmp_path).episodes("train").support.x.ids
    assert classes(tmp_path).episodes("train").support.x.ids.equal(first)
    assert len(calls) == 1
    classes(tmp_path, max_length=8).episodes("train")
    classes(tmp_path, tokenizer=Words(size=20)).episodes("train")
    write_csv(tmp_path / "a.csv", rows_of_classes(6, 5))
    classes(tmp_path, tokenizer=Words(size=20)).episodes("train")
    assert len(calls) == 4
