"""The page "Ten examples per intent": its commands and its code, as they stand there, with a tiny language model."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from metalit import FewShotClassifier
from metalit.evaluation import read_results
from metalit.main import main
from miniature_texts import rows_of_intents, write_csv, write_tokenizer
from test_docs import DOCS, ROOT, blocks, commands

PAGE = DOCS / "guide" / "ten-examples-per-intent.md"
VERBS, NOUNS = ("freeze", "order", "close", "insure"), ("card", "account", "loan", "cheque", "phone", "flat")
INTENTS = [f"{verb} {noun}" for verb in VERBS for noun in NOUNS]
OWN = ["renew card", "sell phone", "close passport"]
QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
SMALL = [
    "--model.network.width=32", "--model.network.vocabulary=500", "--data.tokenizer.size=500", *QUIET,
]  # fmt: skip
SHORT = [
    "--trainer.max_steps=4",
    "--trainer.log_every_n_steps=1",
    "--data.episodes_per_epoch=16",
    "--data.val_episodes=5",
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The tables of the page, with ten texts of each own intent, and ten more to recognise."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("metalit.commands.use.EPISODES", 20)
    Path("my").mkdir()
    write_csv(Path("my/intents.csv"), rows_of_intents(INTENTS, 20))
    rows = rows_of_intents(OWN, 20)
    write_csv(Path("my/labelled.csv"), [row for number, row in enumerate(rows) if number % 2])
    new = [row for number, row in enumerate(rows) if not number % 2]
    Path("my/new.txt").write_text("".join(f"{row['text']}\n" for row in new), encoding="utf-8")
    shutil.copytree(ROOT / "configs", "configs")
    return new


def tiny_model(folder):
    """A BERT at random, with short embeddings."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    words = {word for row in rows_of_intents([*INTENTS, *OWN], 20) for word in row["text"].split()}
    config = transformers.BertConfig(
        vocab_size=100, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    transformers.BertModel(config).save_pretrained(write_tokenizer(folder, sorted(words)))
    return str(folder)


def accuracy(run):
    return read_results(Path("runs") / run)["metrics"]["accuracy"]["mean"]


def predictions(run):
    with (Path("runs") / run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_the_page(place, capsys):
    pytest.importorskip("sklearn")
    test, predict, fit, own_test, own_predict, words, probe = (command[2:] for command in commands(PAGE))
    name = tiny_model(Path("model"))
    model = [f"--data.tokenizer.name_or_path={name}", "--data.test_episodes=20", *QUIET]
    main([*test, *model, f"--data.features.name_or_path={name}", "--model.network.inputs=32"])
    assert accuracy("minilm") > 0.4  # twice chance
    main([*fit, *SMALL, *SHORT])
    main([*own_test, *SMALL, "--data.test_episodes=20"])
    main([*words, "--data.test_episodes=20", *QUIET])
    main(
        [
            *probe,
            *model,
            f"--model.network.network.name_or_path={name}",
            "--data.test_episodes=1",
            "--model.pairs_per_class=3",
        ]
    )
    assert min(accuracy("mine"), accuracy("words")) > 0.4
    assert accuracy("probe") > 0.2

    for command, run in ((predict, "minilm"), (own_predict, "mine")):
        capsys.readouterr()
        main(command)
        assert "20 validation episodes, 3 ways, 10 shots" in " ".join(capsys.readouterr().out.split())
        rows = predictions(run)
        assert [row["text"] for row in rows] == [row["text"] for row in place]
        right = sum(row["most_likely"] == each["label"] for row, each in zip(rows, place, strict=True))
        assert right >= 20  # of 30; 10 is chance

    variables = {}
    first, second = blocks(PAGE, "python")
    exec(first, variables)
    assert variables["predicted"].tolist() == [row["most_likely"] for row in predictions("minilm")]
    assert variables["scores"].mean() > 0.6
    texts = [row["text"] for row in place]
    expected = variables["classifier"].predict_proba(texts)
    exec(second, variables)
    for folder in ("runs", "model", "my/metalit-cache"):
        shutil.rmtree(folder)
    opened = FewShotClassifier.load("my/classifier")
    np.testing.assert_array_equal(opened.predict_proba(texts), expected)
