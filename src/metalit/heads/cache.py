"""A key-value cache of the support set, with optional logits of class texts (Tip-Adapter)."""

import math

import torch
from torch import Tensor
from torch.func import grad

from metalit.episode import Labelled
from metalit.errors import UserError, not_negative, positive
from metalit.functional.distances import membership
from metalit.functional.losses import task_loss
from metalit.heads.base import Head
from metalit.tasks.parameters import Params
from metalit.tasks.precision import full_precision
from metalit.update_rules import Adam

WEIGHT_DECAY, EPSILON = 0.01, 1e-4  # of AdamW in the authors' code, the former being torch's default
Fitted = tuple[Tensor, Tensor]


class SupportCache(Head):
    """Affinities to the support embeddings, summed by class, plus logits of class texts if these are given.

        logits(q) = residual sum_i exp(-sharpness (1 - q . key_i)) y_i  +  text_scale q . text_k

    Keys are the support embeddings, which should have length 1. With ``steps`` they are fine-tuned on the support
    cross-entropy by AdamW, whose rate falls along half a cosine.

    Args:
        residual: alpha, factor of the cache, > 0; without texts it changes probabilities, not classes.
        sharpness: beta, > 0.
        steps: steps of fine-tuning, each over the whole support set, >= 0.
        learning_rate: > 0.
        text: embeddings of the class texts ``[N, D]`` in the order of the labels; scaled to unit length here.
        text_scale: factor of the texts' cosines, > 0; 100 in CLIP.

    Raises:
        UserError: a number is out of range, or the texts are no matrix.
    """

    honours_masks = True
    text: Tensor | None

    def __init__(
        self,
        residual: float = 1.0,
        sharpness: float = 5.5,
        steps: int = 0,
        learning_rate: float = 0.001,
        text: Tensor | None = None,
        text_scale: float = 100.0,
    ) -> None:
        super().__init__()
        self.residual, self.sharpness = positive("residual", residual), positive("sharpness", sharpness)
        self.steps, self.text_scale = not_negative("steps", steps), positive("text_scale", text_scale)
        self.adam = Adam(positive("learning_rate", learning_rate), beta1=0.9, epsilon=EPSILON)
        if text is not None and text.dim() != 2:
            raise UserError(f"the text embeddings have shape {list(text.shape)}, but must be [classes, D]")
        self.register_buffer("text", None if text is None else torch.nn.functional.normalize(text, dim=-1))

    @full_precision
    def fit(self, support: Labelled, ways: int) -> Fitted:
        """Return the keys ``[S, D]`` and the one-hot labels ``[S, N]``.

        Raises:
            UserError: there are texts for another number of classes, or of another length.
        """
        if self.text is not None and self.text.shape != (ways, support.x.shape[-1]):
            raise UserError(
                f"the text embeddings are {list(self.text.shape)}, but the task has {ways} classes and embeddings of "
                f"length {support.x.shape[-1]}: give one text of that length for each class, in the order of the labels"
            )
        values = membership(support.y, ways, support.x, support.mask).mT

        def loss(keys: Params) -> Tensor:
            return task_loss(self.logits(keys["key"], values, support.x), support.y, support.mask)

        keys: Params = {"key": support.x}
        state = self.adam.init(keys)
        for step in range(self.steps):
            share = (1 + math.cos(math.pi * step / self.steps)) / 2
            moved, state = self.adam(grad(loss)(keys), state, keys, support.x)
            decayed = keys["key"] * (1 - share * self.adam.lr * WEIGHT_DECAY)
            keys = {"key": decayed + share * (moved["key"] - keys["key"])}
        return keys["key"], values

    @full_precision
    def classify(self, fitted: Fitted, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``."""
        return self.logits(*fitted, query)

    def logits(self, keys: Tensor, values: Tensor, query: Tensor) -> Tensor:
        """Return logits ``[n, N]`` of embeddings ``[n, D]``, by keys ``[S, D]`` and values ``[S, N]``."""
        affinities = (self.sharpness * (query @ keys.mT - 1)).exp()
        cached = self.residual * affinities @ values
        return cached if self.text is None else cached + self.text_scale * query @ self.text.to(query.dtype).mT
