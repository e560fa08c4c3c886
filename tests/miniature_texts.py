"""Writers of miniature data sets of texts in the real on-disk formats, and of a tokenizer's folder."""

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
