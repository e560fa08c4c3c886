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
