"""Tip-Adapter-F (Zhang et al. 2022, https://arxiv.org/abs/2111.03930), section 3.2.

1  embed the support set by a frozen network f, scaled to unit length: the keys F; values L = one-hot labels
2  fine-tune F on the cross-entropy of line 3 over the support set, by AdamW with a cosine schedule; L is fixed
3  for a query q = f(x) / |f(x)|:  logits = alpha exp(-beta (1 - q F')) L + 100 q W', with W the embeddings of the class
   texts by the same vision-language model; without texts the first term alone                          (SupportCache)
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.algorithms.metric.text_embeddings import read_text_embeddings, refuse_texts_of_drawn_classes
from metalit.heads import Step, SupportCache


class TipAdapterF(PretrainingLearner):
    """Tip-Adapter with keys that are fine-tuned on the support set of each task.

    Args:
        network: the embedding f, ``[n, ...]`` to ``[n, D]``; ``torch.nn.Identity`` for embeddings computed before.
        classes: C, the number of classes of the training split, >= 2, to train f as a classifier of them first; use it
            with ``data.train_labels: split``. Not given: the network is used as it is.
        residual: alpha, > 0; without texts it changes probabilities, not classes.
        sharpness: beta, > 0.
        steps: steps of line 2, each over the whole support set, >= 0; with 0 it is Tip-Adapter.
        learning_rate: of AdamW, > 0.
        text: file with the embeddings of the class texts ``[N, D]``, in the order of the labels; see
            ``read_text_embeddings``. Only for a fixed list of classes (``adapt``), not for episodes that draw theirs.
        transform: steps applied to every embedding of a task: ``power``, ``centre``, ``l2``.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, a text file that cannot be used, D is not known, or the data have other
            classes or labels.
    """

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        residual: float = 1.0,
        sharpness: float = 5.5,
        steps: int = 20,
        learning_rate: float = 0.001,
        text: str | None = None,
        transform: Sequence[Step] = ("l2",),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        head = SupportCache(residual, sharpness, steps, learning_rate, text=read_text_embeddings(text))
        head_of_task = with_transform(head, transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head_of_task, classes, **learner)
        self.text = text

    def setup(self, stage: str) -> None:
        """Refuse texts for episodes, which draw their classes."""
        super().setup(stage)
        refuse_texts_of_drawn_classes(self.text)
