"""Language models of the Hugging Face Hub or a folder of that form, as encoders of texts."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError, check
from metalit.networks.pretrained import PretrainedNetwork
from metalit.networks.pretrained.from_transformers import existing
from metalit.networks.pretrained.weights import tensors_sha256
from metalit.networks.texts.base import TextEncoder
from metalit.networks.texts.pooling import pooled_length, pooled_text
from metalit.networks.texts.sentence_folder import found_file
from metalit.networks.texts.text_models import hidden_states, load_text_model, made_text_model
from metalit.networks.texts.tokenizer_files import FILES, UnreadableTokenizerError, load_tokenizer, tokenizer_digest

PretrainedTextPool = Literal["model", "mean", "first", "last", "marks"]


class PretrainedText(PretrainedNetwork, TextEncoder):
    """A pretrained language model by its name, as an encoder of texts: BERT, RoBERTa, MPNet, Llama and the like.

    Names are those of the Hugging Face Hub, such as ``sentence-transformers/all-MiniLM-L6-v2``, or folders in the same
    form (``config.json``, ``tokenizer.json``, ``model.safetensors``). Weights are read from safetensors files only, and
    no code of the model is executed. With ``HF_HUB_OFFLINE=1`` nothing is fetched. The data must have the model's own
    tokenizer, ``data.texts.PretrainedTokenizer`` with the same name. Needs ``pip install 'metalit[text]'``.

    Args:
        name_or_path: name on the Hub, or folder.
        revision: commit, tag or branch on the Hub; give a commit for a result that can be reproduced.
        pool: what becomes of the hidden states. ``model``: what a folder of sentence-transformers says, else the
            ``mean`` over the tokens of an encoder, the ``last`` token of a decoder. ``first``: the class token.
            ``marks``: the states at the two marked places of a relation, 2 D features.
        normalise: scale embeddings to length 1; if not given, as a folder of sentence-transformers says, else not.
        trained: ``none``, ``all``, or N for the last N blocks and what follows them.
        blocks: dotted names of the blocks, or of the list of them; if not given, the outermost list of modules.
        pretrained_on: what the weights were trained on, in words, for the results.
        architecture: what the method ``architecture`` returns, in place of files; the weights are then random, until
            others are loaded. How a saved classifier makes its network.

    Attributes:
        features: D, length of an embedding.
        vocabulary: number of token ids.
        max_length: most tokens of a text; None if there is no limit.
        tokenizer_digest: what tells the model's tokenizer from others; None if there is none beside the weights.

    Shape:
        tokens ``[n, T]`` to ``[n, D]``; padding does not change an embedding.

    Raises:
        ImportError: transformers is not installed.
        SettingError: there is no such model, it wants code of its own, its file lacks weights or is no safetensors
            file, its tokenizer is damaged, or its hidden states depend on padding.
    """

    def __init__(
        self,
        name_or_path: str,
        revision: str | None = None,
        pool: PretrainedTextPool = "model",
        normalise: bool | None = None,
        trained: int | Literal["none", "all"] = "none",
        blocks: Sequence[str] = (),
        pretrained_on: str | None = None,
        architecture: dict[str, Any] | None = None,
    ) -> None:
        if architecture is None:
            loaded = load_text_model(name_or_path, revision)
            digest = tensors_sha256(loaded.model)  # before anything is trained
            beside = digest_beside(name_or_path, revision)
        else:
            loaded = made_text_model(name_or_path, architecture["config"], architecture["sentence"])
            digest, beside = architecture["weights"], architecture["tokenizer"]
        super().__init__(loaded.model, trained, blocks, "frozen", pretrained_on)
        own = loaded.sentence
        unsupported = f"mean, first, last or marks: the model's own needs {own.unsupported}"
        check("pool", pool, pool != "model" or own.unsupported is None, unsupported)
        self.pool = (own.pool or ("last" if loaded.causal else "mean")) if pool == "model" else pool
        self.normalise = own.normalise if normalise is None else normalise
        self.name, self.revision, self.digest, self.config = name_or_path, revision, digest, loaded.source
        self.causal, self.first_position = loaded.causal, loaded.first_position
        self.vocabulary, self.max_length = loaded.vocabulary, loaded.max_length
        self.tokenizer_digest, self.sentence = beside, own
        named = name_or_path if revision is None else f"{name_or_path}, revision: {revision}"
        self.tokenizer = f"{{class_path: metalit.data.texts.PretrainedTokenizer, init_args: {{name_or_path: {named}}}}}"
        self.features = pooled_length(loaded.width, self.pool)

    def forward(self, x: Tokens | MarkedTokens) -> Tensor:
        """Return embeddings ``[n, D]``."""
        if not isinstance(x, Tokens | MarkedTokens):
            raise SettingError("network", type(self).__name__, f"an encoder of a {type(x).__name__}: texts are Tokens")
        length = x.ids.shape[-1]
        check("data.max_length", length, length <= (self.max_length or length), f"at most {self.max_length} tokens")
        states = hidden_states(self.encoder, x, self.causal, self.first_position)
        embeddings = pooled_text(states, x, self.pool)
        return F.normalize(embeddings, dim=-1) if self.normalise else embeddings

    def architecture(self) -> dict[str, Any]:
        """Return all that the network is made of but its weights, as JSON can hold it."""
        return {
            "config": json.loads(self.config),
            "sentence": asdict(self.sentence),
            "weights": self.digest,
            "tokenizer": self.tokenizer_digest,
        }

    def source(self) -> dict[str, Any]:
        """Return name and revision of the model, the SHA-256 of its tensors, and the output taken from it."""
        return {
            "backbone": self.name if self.revision is None else f"{self.name}@{self.revision}",
            "backbone_weights": f"sha256 of the tensors {self.digest}",
            "backbone_output": f"{self.pool}, length 1" if self.normalise else self.pool,
        }

    def input_setting(self) -> dict[str, Any]:
        """Return the tokenizer beside the weights."""
        return {"backbone_input": f"tokens, tokenizer {(self.tokenizer_digest or 'unknown')[:16]}"}


def digest_beside(name: str, revision: str | None) -> str | None:
    """Return the digest of the tokenizer beside a model's weights; None if there is none that could be used.

    Raises:
        SettingError: its files are damaged.
    """
    try:
        return tokenizer_digest(load_tokenizer(name, revision))
    except UnreadableTokenizerError:
        if found_file(existing(name), FILES[0], revision) is not None:
            raise  # without its digest, nothing would tell that the data have another tokenizer
        return None
    except SettingError:  # the data name their tokenizer themselves
        return None
