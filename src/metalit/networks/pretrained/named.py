"""Backbones of the Hugging Face Hub or a folder of that form, through transformers; and those of timm."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from metalit.errors import SettingError, check
from metalit.networks.pretrained.base import BackboneBatchNorm
from metalit.networks.pretrained.from_timm import TIMM, load_timm
from metalit.networks.pretrained.from_transformers import load_transformers
from metalit.networks.pretrained.images import PretrainedImageNetwork, pooled
from metalit.networks.pretrained.weights import tensors_sha256

PretrainedPool = Literal["model", "mean", "first"]


class Pretrained(PretrainedImageNetwork):
    """A pretrained vision model by its name, with its own preprocessing, as an encoder of images in [0, 1].

    Names are those of the Hugging Face Hub, such as ``facebook/dinov2-small``, or folders in the same form
    (``config.json``, ``model.safetensors``, ``preprocessor_config.json``). Names that begin with ``timm/`` are loaded
    by timm, if it is installed. Weights are read from safetensors files only, so nothing in them is executed. With
    ``HF_HUB_OFFLINE=1`` nothing is fetched. Needs ``pip install 'metalit[vision]'``.

    Args:
        name_or_path: name on the Hub, or folder.
        revision: commit, tag or branch on the Hub; give a commit for a result that can be reproduced.
        image_size: height and width to which images are scaled; if not given, they are scaled and cut as the
            model's own preprocessing does it.
        pool: ``model``: the model's own pooled output if the file has its weights, else the class token, else the mean;
            or the ``mean`` over positions or tokens, or the ``first`` token.
        layer: which hidden state is the output: 0 is before the first layer, -1 the last; if not given, the model's
            output, behind its last norm. Not with ``pool: model``, nor with timm.
        trained: ``none``, ``all``, or N for the last N blocks and what follows them.
        blocks: dotted names of the blocks, or of the list of them; if not given, the outermost list of modules.
        batch_norm: of trained parts: ``frozen`` keeps the running statistics of the file; ``running`` updates them.
        pretrained_on: what the weights were trained on, in words, for the results.

    Attributes:
        features: D, length of an embedding.

    Shape:
        ``[n, channels, height, width]`` to ``[n, D]``; grey images are repeated over the channels.

    Raises:
        ImportError: transformers or timm is not installed.
        SettingError: there is no such model or layer, or its file lacks weights or is no safetensors file.
    """

    def __init__(
        self,
        name_or_path: str,
        revision: str | None = None,
        image_size: int | None = None,
        pool: PretrainedPool = "model",
        layer: int | None = None,
        trained: int | Literal["none", "all"] = "none",
        blocks: Sequence[str] = (),
        batch_norm: BackboneBatchNorm = "frozen",
        pretrained_on: str | None = None,
    ) -> None:
        is_timm = name_or_path.startswith(TIMM)
        if is_timm:
            check("pool", pool, pool == "model", "model, the only one for a model of timm")
        check("layer", layer, layer is None or pool != "model", "none with pool: model; give pool: mean or first")
        loaded = (load_timm if is_timm else load_transformers)(name_or_path, revision, image_size)
        digest = tensors_sha256(loaded.model)  # before anything is trained
        super().__init__(loaded.model, loaded.preprocessing, trained, blocks, batch_norm, pretrained_on)
        self.name, self.revision, self.digest, self.config = name_or_path, revision, digest, loaded.source
        self.pool, self.layer = pool, layer
        self.arguments = loaded.arguments | ({} if layer is None else {"output_hidden_states": True})
        self.has_pooled, self.has_class_token = loaded.has_pooled, loaded.has_class_token
        zeros = torch.zeros(1, len(self.preprocessing.mean), *(self.preprocessing.image_size or ()))
        with torch.no_grad():
            self.output, embedding = self.embedding(self.eval().preprocessing(zeros))
        self.features = embedding.shape[1]
        self.train()

    def encode(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of preprocessed images."""
        return self.embedding(x)[1]

    def embedding(self, x: Tensor) -> tuple[str, Tensor]:
        """Return what the embeddings of preprocessed images are, in words, and the embeddings ``[n, D]``."""
        found = self.encoder(x, **self.arguments)
        if isinstance(found, Tensor):  # of timm, pooled already
            return "pooled output", pooled(found, "mean", self.name)
        hidden = found["last_hidden_state"] if self.layer is None else self.hidden(found["hidden_states"])
        if self.pool != "model":
            return self.pool, pooled(hidden, self.pool, self.name)
        if self.has_pooled and "pooler_output" in found:
            return "pooled output", found["pooler_output"].flatten(1)
        if self.has_class_token:
            return "class token", pooled(hidden, "first", self.name)
        return "mean", pooled(hidden, "mean", self.name)

    def hidden(self, states: Sequence[Tensor]) -> Tensor:
        """Return the hidden state of ``layer``."""
        assert self.layer is not None
        if not -len(states) <= self.layer < len(states):
            raise SettingError("layer", self.layer, f"from {-len(states)} to {len(states) - 1}")
        return states[self.layer]

    def source(self) -> dict[str, Any]:
        """Return name and revision of the model, the SHA-256 of its tensors, and the output taken from it."""
        layer = "" if self.layer is None else f" of hidden state {self.layer}"
        return {
            "backbone": self.name if self.revision is None else f"{self.name}@{self.revision}",
            "backbone_weights": f"sha256 of the tensors {self.digest}",
            "backbone_output": f"{self.output}{layer}",
        }
