"""Runs to use, trained for two steps: prototypical networks on Glyphs, and on texts."""

import pytest

from commands import TRAINER, changed, protonet, write_yaml
from metalit.main import main
from miniature_texts import rows_of_intents, write_csv

NOUNS = ("card", "account", "loan", "cheque")
INTENTS = [f"{verb} {noun}" for verb in ("freeze", "order", "close", "insure") for noun in NOUNS]


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """The folder of a run with three ways."""
    folder = tmp_path_factory.mktemp("inference") / "run"
    folder.mkdir()
    config = write_yaml(folder.parent / "c.yaml", changed(protonet(), {"data.init_args.ways": 3}))
    main(["fit", "--config", config, "--run_dir", str(folder)])
    return folder


@pytest.fixture(scope="session")
def text_run(tmp_path_factory):
    """The folder of a run: prototypes of a small transformer, with a vocabulary of its own."""
    folder = tmp_path_factory.mktemp("texts")
    write_csv(folder / "intents.csv", rows_of_intents(INTENTS))
    network = {
        "class_path": "metalit.networks.TextTransformer",
        "init_args": {"vocabulary": 100, "width": 16, "layers": 1, "heads": 2},
    }
    tokenizer = {"class_path": "metalit.data.texts.Words", "init_args": {"size": 100}}
    sizes = {"ways": 3, "shots": 2, "queries": 4, "episodes_per_epoch": 8, "val_episodes": 4, "test_episodes": 4}
    data = {
        "class_path": "metalit.data.TextClasses",
        "init_args": {
            **sizes,
            "root": str(folder / "intents.csv"),
            "tokenizer": tokenizer,
            "shares": [0.5, 0.25, 0.25],
        },
    }  # fmt: skip
    model = {"class_path": "metalit.algorithms.PrototypicalNetwork", "init_args": {"network": network}}
    config = write_yaml(folder / "c.yaml", {"model": model, "data": data, "trainer": TRAINER})
    main(["fit", "--config", config, "--run_dir", str(folder / "run")])
    return folder / "run"
