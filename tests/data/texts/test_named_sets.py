"""The published data sets in their real forms, in miniature, and the divisions that come with metalit."""

import json
from pathlib import Path

import pytest
import torch

import metalit
from metalit.data import CLINC150, Banking77, FewJoint, FewRel, HuffPost
from metalit.data.texts import HashedWords
from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError, UserError
from metalit.files import write_text
from miniature_texts import write_banking77, write_bao, write_clinc150, write_few_joint, write_fewrel, write_jsonl

SMALL = {"ways": 2, "shots": 1, "queries": 2}
SPLITS = Path(metalit.__file__).parent / "data" / "splits"


def lists(data_set, splits):
    return {
        split: (SPLITS / data_set / splits / f"{split}.txt").read_text().splitlines()
        for split in ("train", "val", "test")
    }


@pytest.mark.parametrize(
    ("data_set", "counts"), [("clinc150", [50, 50, 50]), ("banking77", [25, 25, 27]), ("liu", [18, 18, 18])]
)
def test_the_divisions_of_protaugment(data_set, counts):
    divisions = [lists(data_set, f"protaugment/0{number}") for number in range(1, 6)]
    for division in divisions:
        assert [len(classes) for classes in division.values()] == counts
        assert len(set().union(*division.values())) == sum(counts)
    assert len({tuple(sorted(division["test"])) for division in divisions}) == 5


def test_the_divisions_of_bao():
    assert [len(each) for each in lists("fewrel", "bao").values()] == [65, 5, 10]
    assert [len(each) for each in lists("huffpost", "bao").values()] == [20, 5, 16]


@pytest.mark.parametrize(
    ("kind", "name", "counts"), [(CLINC150, "clinc150", (22_491, 1, 4)), (Banking77, "banking77", (13_072, 11, 0))]
)
def test_the_real_files(kind, name, counts, shared_data, tmp_path):
    for number in range(1, 6):
        data = kind(root=str(shared_data / name), splits=f"protaugment/0{number}", cache_dir=str(tmp_path))
        assert data.class_splits() == {s: sorted(of) for s, of in lists(name, f"protaugment/0{number}").items()}
    setting = data.setting()
    found = (setting["texts"], setting["repeated_texts_left_out"], setting["texts_in_two_classes_left_out"])
    assert (found, setting["class_split"]) == (counts, "protaugment/05")


def test_clinc150_leaves_out_what_is_out_of_scope(tmp_path):
    data = CLINC150(root=str(write_clinc150(tmp_path)), splits="seed", **SMALL)
    entries = data.listing().entries
    assert len(entries) == 48
    assert {entry.name.partition(":")[0] for entry in entries} == {
        f"data_full.json {part}" for part in ("train", "val", "test")
    }
    assert not any("scope" in entry.text for entry in entries)
    grouped = CLINC150(root=str(tmp_path), splits="seed", split_by="group", **SMALL).class_splits()
    assert sorted(map(len, grouped.values())) == [4, 4, 4]
    for classes in grouped.values():
        assert len({int(name[6:]) % 3 for name in classes}) == 1  # one domain


def test_what_a_published_set_has_twice_is_left_out(tmp_path):
    write_clinc150(tmp_path)
    content = json.loads((tmp_path / "data_full.json").read_text())
    content["val"] += [content["train"][0], [content["train"][1][0], "class 11"]]
    write_text(tmp_path / "data_full.json", json.dumps(content))
    data = CLINC150(root=str(tmp_path), splits="seed", **SMALL)
    assert len(data.listing().entries) == 47
    setting = data.setting()
    assert (setting["repeated_texts_left_out"], setting["texts_in_two_classes_left_out"]) == (1, 1)


def test_banking77_keeps_line_breaks(tmp_path):
    data = Banking77(root=str(write_banking77(tmp_path)), splits="seed", **SMALL)
    assert len(data.listing().entries) == 48
    assert any("\n" in entry.text for entry in data.listing().entries)


def test_files_that_cannot_be_fetched_are_named(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", refused)
    for kind, file in ((CLINC150, "data_full.json"), (Banking77, "train.csv")):
        with pytest.raises(SettingError, match=f"{file}.*no network"):
            kind(root=str(tmp_path)).listing()
    for kind, file in ((FewRel, r"train_wiki\.json.*thunlp"), (HuffPost, r"huffpost\.json.*kaggle")):
        with pytest.raises(SettingError, match=file):
            kind(root=str(tmp_path)).listing()
    with pytest.raises(SettingError, match=r"train\.json.*MetaDialog"):
        FewJoint(root=str(tmp_path)).episodes("train")


def test_fewrel_marks_the_entities(tmp_path):
    data = FewRel(root=str(write_fewrel(tmp_path)), shares=(0.5, 0.25, 0.25), **SMALL)
    assert {len(of) for of in data.class_splits().values()} == {6, 3}
    text = data.listing().entries[0].text
    assert text == "[E1] Rome City [/E1] the relation0 [E2] Italy [/E2] ."
    x = data.episodes("train", 0, 2).query.x
    assert isinstance(x, MarkedTokens)
    words = data.fitted_tokenizer().words
    marked = x.ids.gather(-1, x.spans)
    assert {words[number - 2] for number in marked[..., 0].flatten().tolist()} == {"[E1]"}
    assert {words[number - 2] for number in marked[..., 1].flatten().tolist()} == {"[E2]"}
    plain = FewRel(root=str(tmp_path), shares=(0.5, 0.25, 0.25), markers=False, **SMALL)
    assert isinstance(plain.episodes("train").query.x, Tokens)
    assert "[" not in plain.listing().entries[0].text


def test_marks_beyond_the_last_token_are_at_it(tmp_path):
    data = FewRel(root=str(write_fewrel(tmp_path)), shares=(0.5, 0.25, 0.25), max_length=5, **SMALL)
    x = data.episodes("train", 0, 20).query.x
    assert (x.spans[..., 1] == x.mask.sum(-1) - 1).all()


def test_pretrained_tokenizers_find_the_marks(tmp_path):
    pytest.importorskip("transformers")
    from metalit.data.texts import PretrainedTokenizer, TextForm
    from miniature_texts import write_tokenizer

    tokenizer = PretrainedTokenizer(str(write_tokenizer(tmp_path)))
    x = TextForm(tokenizer, marked=True).items(["the [E1] card [/E1] in [E2] account [/E2]"])
    names = [tokenizer.tokenizer.convert_ids_to_tokens(x.ids[0])[at] for at in x.spans[0].tolist()]
    assert names == ["[", "["]
    assert x.spans[0].tolist() == [2, 13]


def test_fewrel_given_by_its_files(tmp_path):
    data = FewRel(root=str(write_fewrel(tmp_path)), splits="given", **SMALL)
    assert {split: len(of) for split, of in data.class_splits().items()} == {"train": 8, "val": 4, "test": 0}


def test_the_files_of_bao(tmp_path):
    write_bao(tmp_path)
    for kind, counts in ((FewRel, [65, 5, 10]), (HuffPost, [20, 5, 16])):
        data = kind(root=str(tmp_path), splits="bao", **SMALL)
        assert [len(of) for of in data.class_splits().values()] == counts
        assert data.setting()["class_split"] == "bao"
        assert data.episodes("test").support.y.tolist() == [[0, 1]]


def test_the_headlines_of_kaggle(tmp_path):
    rows = [{"headline": f"{'word ' * each}on topic {topic}", "category": f"TOPIC {topic}", "link": "x"}
            for topic in range(10) for each in range(4)]  # fmt: skip
    write_jsonl(tmp_path / "News_Category_Dataset_v2.json", [*rows, {"headline": "", "category": "TOPIC 1"}, rows[3]])
    data = HuffPost(root=str(tmp_path), **SMALL)
    assert len(data.listing().entries) == 40
    assert data.setting()["repeated_texts_left_out"] == 1


NO_SUCH_WORD = '{"P1": [{"tokens": ["a"], "h": ["a", "Q", [[3]]], "t": 1}]}'


@pytest.mark.parametrize(
    ("kind", "file", "content", "where"),
    [
        (CLINC150, "data_full.json", '{"train": [\n["a", "b"]', "data_full.json, line 2"),
        (CLINC150, "data_full.json", '{"train": [["a"]], "val": [], "test": []}', "data_full.json train:1"),
        (
            FewRel,
            "train_wiki.json",
            '{"P1": [{"tokens": ["a"], "h": ["a", "Q", [[3]]], "t": 1}]}',
            "train_wiki.json P1:1",
        ),
        (HuffPost, "huffpost.json", '{"text": ["a"], "label": 1}\n{"text": 3}\n', "huffpost.json:2"),
        (HuffPost, "huffpost.json", '{"text": ["a"], "label": 1}\n{"text"\n', "huffpost.json, line 2"),
    ],
)
def test_files_of_another_form_are_named_with_the_place(kind, file, content, where, tmp_path):
    write_clinc150(tmp_path)
    (tmp_path / file).write_text(content)
    with pytest.raises(UserError, match=where):
        kind(root=str(tmp_path), splits="seed").listing()


def test_episodes_from_files(tmp_path):
    data = FewJoint(root=str(write_few_joint(tmp_path)))
    sizes = [data.episodes("test", index) for index in range(3)]
    assert [episode.support.y.shape[1] for episode in sizes] == [2, 3, 4]
    assert sizes[0].query.y.tolist() == [[0, 0, 1, 1]]
    assert sizes[0].support.x.ids.shape[-1] == sizes[0].query.x.ids.shape[-1] == 8
    assert data.test_episodes == 3
    passes = [[data.episodes("train", 3 * epoch + at).support.y.shape[1] for at in range(3)] for epoch in range(8)]
    assert all(sorted(sizes) == [2, 3, 4] for sizes in passes)
    assert len(set(map(tuple, passes))) > 1
    again = FewJoint(root=str(tmp_path))
    assert torch.equal(again.episodes("train", 7).query.x.ids, data.episodes("train", 7).query.x.ids)


def test_episodes_of_files_are_one_at_a_time(tmp_path):
    with pytest.raises(SettingError, match="tasks_per_batch"):
        FewJoint(root=str(tmp_path), tasks_per_batch=4)
    data = FewJoint(root=str(write_few_joint(tmp_path)), test_episodes=4, tokenizer=HashedWords())
    with pytest.raises(SettingError, match="at most 3"):
        data.episodes("test")


def test_an_episode_whose_query_has_another_intent_is_named(tmp_path):
    write_few_joint(tmp_path)
    content = json.loads((tmp_path / "test.json").read_text())
    content["test domain"][1]["query"]["labels"][0] = ["intent 9"]
    write_text(tmp_path / "test.json", json.dumps(content))
    with pytest.raises(UserError, match=r"test\.json test domain:2"):
        FewJoint(root=str(tmp_path)).episodes("test")
