"""Texts as the mean of the vectors of their words, which a file brings."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import UserError
from metalit.networks.pretrained.weights import read_safetensors
from metalit.networks.texts.base import TextEncoder
from metalit.networks.texts.pooling import pooled_text
from metalit.networks.texts.tokenizer_files import load_tokenizer, tokenizer_digest, words_digest
from metalit.networks.texts.word_vectors import FIRST, read_word_vectors
from metalit.networks.texts.word_weights import Weighting, WordWeights


class StaticVectors(nn.Module, TextEncoder):
    """The mean of the vectors of a text's words, weighted by their rarity if asked for.

    A word that the file does not have counts for nothing; a text of such words only is zero. The data must have the
    file's own tokens: ``data.texts.VectorWords`` with the same path for a file of words, and
    ``data.texts.PretrainedTokenizer`` for a folder.

    Args:
        path: file of word vectors: GloVe's or word2vec's text form, also with gzip; ``.npz`` with ``words`` and
            ``vectors``; or ``.npy`` beside a ``.txt`` of words. Or a folder in model2vec's form: ``tokenizer.json`` and
            ``model.safetensors``, whose vectors may be int8.
        weighting: ``idf`` weights words by their rarity in the training texts; ``none`` does not.
        normalise: scale embeddings to length 1.
        trained: whether training changes the vectors; otherwise they are frozen.
        architecture: what the method ``architecture`` returns, in place of a file; the vectors are then zeros, until
            others are loaded. How a saved classifier makes its network.

    Attributes:
        features: D, length of a vector.
        vocabulary: number of token ids.
        tokenizer_digest: what tells the file's tokens from others.

    Shape:
        tokens ``[n, T]`` to ``[n, D]``; padding does not change an embedding.

    Raises:
        SettingError: there is no such file or folder.
        UserError: it has another form.
    """

    def __init__(
        self,
        path: str,
        weighting: Weighting = "none",
        normalise: bool = False,
        trained: bool = False,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if architecture is None:
            table = of_folder(path) if Path(path).expanduser().is_dir() else of_file(path)
        else:
            zeros = torch.zeros(architecture["shape"])
            table = Table(zeros, architecture["unknown"], architecture["digest"], f"that of {path}")
        self.name = path
        self.vectors = nn.Parameter(table.vectors, requires_grad=trained)
        self.vocabulary, self.features = table.vectors.shape
        self.weights = WordWeights(self.vocabulary, weighting)
        self.normalise, self.unknown = normalise, table.unknown
        self.tokenizer_digest, self.tokenizer = table.digest, table.tokenizer

    def forward(self, x: Tokens | MarkedTokens) -> Tensor:
        """Return embeddings ``[n, D]``."""
        weights = self.weights(x)
        if self.unknown is not None:
            weights = weights * (x.ids != self.unknown)
        embeddings = pooled_text(F.embedding(x.ids, self.vectors), x, "mean", weights)
        return F.normalize(embeddings, dim=-1) if self.normalise else embeddings

    def architecture(self) -> dict[str, Any]:
        """Return all that the network is made of but its vectors, as JSON can hold it."""
        return {"shape": list(self.vectors.shape), "unknown": self.unknown, "digest": self.tokenizer_digest}

    def setting(self) -> dict[str, Any]:
        """Return the class, the file, and what becomes of its vectors."""
        settings = {
            "path": self.name,
            "features": self.features,
            "weighting": self.weights.weighting,
            "normalise": self.normalise,
            "trained": self.vectors.requires_grad,
        }
        return {"encoder": type(self).__name__, "encoder_settings": settings}

    def extra_repr(self) -> str:
        """Return the settings."""
        return f"{self.vocabulary}, {self.features}, normalise={self.normalise}, trained={self.vectors.requires_grad}"


class Table(NamedTuple):
    """Vectors by token id.

    Attributes:
        vectors: ``[V, D]`` float32.
        unknown: id of words that have no vector; None if there is none.
        digest: of the tokens.
        tokenizer: as a config has it.
    """

    vectors: Tensor
    unknown: int | None
    digest: str
    tokenizer: str


def of_file(path: str) -> Table:
    """Return the vectors of a file of words."""
    words, vectors = read_word_vectors(path)
    table = F.pad(torch.from_numpy(vectors), (0, 0, FIRST, 0))  # of padding and of unknown words
    yaml = f"{{class_path: metalit.data.texts.VectorWords, init_args: {{path: {path}}}}}"
    return Table(table, FIRST - 1, words_digest(words), yaml)


def of_folder(path: str) -> Table:
    """Return the vectors of a folder in model2vec's form.

    Row i is ``weights[i] * embeddings[mapping[i]]``; files without ``mapping`` or ``weights`` have a row for each token
    already, or weights of 1. int8 vectors are used as they are: their common scale does not change a direction.

    Raises:
        UserError: the file has other tensors, or another number of tokens than the tokenizer.
    """
    folder = Path(path).expanduser()
    tokenizer = load_tokenizer(path)
    tensors = read_safetensors(folder / "model.safetensors")
    if "embeddings" not in tensors or tensors["embeddings"].dim() != 2:
        raise UserError(f"{folder / 'model.safetensors'} has tensors {sorted(tensors)}, expected embeddings [V, D]")
    vectors = tensors["embeddings"].float()
    if tensors["embeddings"].dtype == torch.int8:
        vectors = vectors / 127
    if "mapping" in tensors:
        vectors = vectors[tensors["mapping"].long()]
    if "weights" in tensors:
        vectors = vectors * tensors["weights"].float().unsqueeze(-1)
    if len(vectors) < len(tokenizer):
        raise UserError(f"{folder} has {len(vectors)} vectors, but its tokenizer has {len(tokenizer)} tokens")
    config = {"class_path": "metalit.data.texts.PretrainedTokenizer", "init_args": {"name_or_path": path}}
    yaml = json.dumps(config).replace('"', "")
    return Table(vectors.contiguous(), tokenizer.unk_token_id, tokenizer_digest(tokenizer), yaml)
