"""Writers of miniature data sets of texts in the real on-disk formats, and of a tokenizer's folder."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

WORDS = (
    *("the", "card", "lost", "my", "balance", "what", "is", "please", "how", "much", "money", "in", "account"),
    *("a", "red", "blue", "where", "when", "can", "i"),
)


def write_tokenizer(folder: Path, extra: Sequence[str] = ()) -> Path:
    """Write the files of a small WordPiece tokenizer, as BERT has it, and return the folder."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[", "]", "/", "e", "##1", "##2", *WORDS, *extra]
    made = Tokenizer(models.WordPiece({word: at for at, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    made.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 512}
    special = {"unk_token": "[UNK]", "pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    (folder / "tokenizer_config.json").write_text(json.dumps({**settings, **special, "mask_token": "[MASK]"}))
    return folder


def write_language_model(folder: Path) -> Path:
    """Write a tiny BERT with random weights and its tokenizer, as ``PretrainedText`` reads them."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=40, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8
    )
    transformers.BertModel(config).save_pretrained(write_tokenizer(folder))
    return folder


def write_static_vectors(folder: Path, vectors: int = 40, size: int = 8) -> Path:
    """Write random vectors of the tokens of a small tokenizer, in model2vec's form, and return the folder."""
    import torch
    from safetensors.torch import save_file

    table = torch.randn(vectors, size, generator=torch.Generator().manual_seed(0))
    save_file({"embeddings": table}, write_tokenizer(folder) / "model.safetensors")
    return folder


def rows_of_classes(classes: int, texts: int, words: str = "please") -> list[dict[str, str]]:
    """Return rows of a table, one class after another; each text is another and ends with the name of its class."""
    return [
        {"text": f"{words} {' '.join([WORDS[(each + number) % len(WORDS)]] * (1 + each))} class {number}",
         "label": f"class {number}"}
        for number in range(classes)
        for each in range(texts)
    ]  # fmt: skip


def write_csv(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as CSV, with a header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_jsonl(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as JSON lines."""
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


def write_parquet(path: Path, rows: Sequence[dict[str, str]]) -> None:
    """Write rows as the Hugging Face Hub does: labels are numbers, whose names are in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = list(dict.fromkeys(row["label"] for row in rows))
    features = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    table = pa.table({"text": [row["text"] for row in rows], "label": [names.index(row["label"]) for row in rows]})
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(features)}), path)


def write_clinc150(folder: Path, intents: int = 12, texts: int = 4) -> Path:
    """Write ``data_full.json`` and ``domains.json`` with a few intents in three domains, and queries out of scope."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [[row["text"], row["label"]] for row in rows_of_classes(intents, texts)]
    out = {f"oos_{part}": [[f"what is out of scope in {part}", "oos"]] for part in ("train", "val", "test")}
    parts = {"train": rows[::2], "val": rows[1::4], "test": rows[3::4], **out}
    (folder / "data_full.json").write_text(json.dumps(parts))
    names = [f"class {number}" for number in range(intents)]
    domains = {f"domain {first}": names[first::3] for first in range(3)}
    (folder / "domains.json").write_text(json.dumps(domains))
    return folder


def write_banking77(folder: Path, intents: int = 12, texts: int = 4) -> Path:
    """Write ``train.csv`` and ``test.csv``; one question has a line break."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": row["text"], "category": row["label"]} for row in rows_of_classes(intents, texts)]
    rows[0]["text"] = "please\n" + rows[0]["text"]
    write_csv(folder / "train.csv", rows[::2])
    write_csv(folder / "test.csv", rows[1::2])
    return folder


def relation(number: int, each: int) -> tuple[list[str], list[int], list[int]]:
    """Return the words of a sentence with the positions of its head and its tail."""
    words = ["Rome", "City", *[WORDS[(each + number) % len(WORDS)]] * (1 + each), f"relation{number}", "Italy", "."]
    return words, [0, 1], [len(words) - 2]


def write_fewrel(folder: Path, training: int = 8, validation: int = 4, sentences: int = 6) -> Path:
    """Write the official ``train_wiki.json`` and ``val_wiki.json``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, numbers in (("train_wiki", range(training)), ("val_wiki", range(training, training + validation))):
        content = {}
        for number in numbers:
            rows = [relation(number, each) for each in range(sentences)]
            content[f"P{number}"] = [
                {"tokens": words, "h": ["rome city", "Q220", [head]], "t": ["italy", "Q38", [tail]]}
                for words, head, tail in rows
            ]
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def write_bao(folder: Path, relations: int = 80, categories: int = 41, texts: int = 4) -> Path:
    """Write ``fewrel.json`` and ``huffpost.json`` in the form of Bao et al., with all of their classes."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for number in range(relations):
        for each in range(texts):
            words, head, tail = relation(number, each)
            both = {"head": [head[0], head[-1]], "tail": [tail[0], tail[-1]]}
            lines.append({"text": words, "label": number, **both})
    write_jsonl(folder / "fewrel.json", lines)
    headlines = [
        {"text": row["text"].split(), "label": int(row["label"][6:])} for row in rows_of_classes(categories, texts)
    ]
    write_jsonl(folder / "huffpost.json", headlines)
    return folder


def write_few_joint(folder: Path, episodes: int = 3) -> Path:
    """Write ``train.json``, ``dev.json`` and ``test.json`` with episodes of different sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train", "dev", "test"):
        content = {
            f"{name} domain": [
                {
                    "support": _few_joint_part(name, 2 + number, 1),
                    "query": _few_joint_part(f"{name} query", 2 + number, 2),
                }
                for number in range(episodes)
            ]
        }
        (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False))
    return folder


def _few_joint_part(word: str, intents: int, texts: int) -> dict[str, list[list[str]]]:
    rows = [(intent, text) for intent in range(intents) for text in range(texts)]
    return {
        "seq_ins": [[word, "我", "想", "听", *[str(intent)] * (1 + text)] for intent, text in rows],
        "seq_outs": [["O"] * (5 + text) for _, text in rows],
        "labels": [[f"intent {intent}"] for intent, _ in rows],
    }


def rows_of_intents(intents: Sequence[str], texts: int = 12) -> list[dict[str, str]]:
    """Return rows of intents such as ``freeze card``: sentences of different lengths about that verb and noun.

    Args:
        intents: a verb and a noun each; they are the labels.
        texts: of each, at most 20.
    """
    begun = ("please", "i want to", "how do i", "could you quickly", "tell me why i should")
    ends = ("now", "", "from home tomorrow evening", "without calling anybody at the bank again")
    around = [(one, other) for one in begun for other in ends][:texts]
    return [
        {"text": f"{one} {verb} my {noun} {other}".strip(), "label": intent}
        for intent in intents
        for verb, noun in [intent.split()]
        for one, other in around
    ]
