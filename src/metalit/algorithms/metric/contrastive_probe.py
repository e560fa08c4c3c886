"""A contrastive probe, after SetFit (Tunstall et al. 2022, https://arxiv.org/abs/2209.11055), section 3.

1  start from an encoder f that was pretrained elsewhere                                    (network, pretrained)
2  from the support set of a task draw, for each class, R pairs of two of its examples with target 1, and R pairs of
   one of them and an example of another class with target 0                                (contrastive_pairs)
3  for each batch of pairs (x, x', t):  theta <- theta - eta grad mean (cos(f(x), f(x')) - t)^2,  by Adam
4  fit a logistic regression to the embeddings of the support set by the fine-tuned f       (LogisticRegression)
5  classify the queries by it
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from metalit.algorithms.metric.base import with_transform
from metalit.algorithms.metric.fine_tuning import FineTunedLearner
from metalit.algorithms.metric.pretraining import PretrainingLearner, linear_classifier
from metalit.episode import Labelled
from metalit.errors import at_least, positive
from metalit.functional.examples import count, selected
from metalit.functional.pairs import contrastive_pairs
from metalit.heads import LogisticRegression, Step
from metalit.networks.partly_trained import settings_of_parts
from metalit.tasks.parameters import Params, select
from metalit.tasks.precision import without_autocast
from metalit.tasks.task_context import uniform_like
from metalit.update_rules import Adam

Pairs = tuple[Tensor, Tensor, Tensor]


class ContrastiveProbe(FineTunedLearner, PretrainingLearner):
    """A pretrained encoder that is fine-tuned for each task on pairs of support examples, and a logistic regression.

    With one example per class its pairs of one class are of the example with itself, which have cosine 1 and no
    gradient: only pairs of different classes are learned, which are pushed apart.

    The random numbers of line 2 are the same in every task: evaluation is deterministic, and ``adapt``, which knows no
    episode's number, must learn what a test of the same support set learns.

    Args:
        network: the encoder f, ``[n, ...]`` to ``[n, D]``. What ``adapted`` matches must not be frozen: give a
            pretrained one ``trained: all``, or put it into ``networks.LoRA``.
        classes: C, the number of classes of the training split, >= 2, to train f as a classifier of them first; use it
            with ``data.train_labels: split``. Not given: the network is used as it is.
        pairs_per_class: R, >= 1.
        epochs: passes over the pairs of line 2, each in another order, >= 0; with 0 it is a logistic probe.
        batch_size: pairs in a batch of line 3, >= 1.
        learning_rate: eta, > 0.
        adapted: shell-style patterns of the parameters that line 3 moves; ``*`` for all that are not frozen.
        strength: of the penalty of line 4, > 0; the inverse of scikit-learn's C.
        transform: steps applied to every embedding that line 4 sees: ``power``, ``centre``, ``l2``.
        features: D, the length of an embedding; default: ``network.features``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, a pattern that matches nothing or a frozen parameter, D is not known, or
            the data have other classes or labels.
    """

    honours_masks = False  # pairs are drawn of all places

    def __init__(
        self,
        network: nn.Module,
        classes: int | None = None,
        pairs_per_class: int = 20,
        epochs: int = 1,
        batch_size: int = 16,
        learning_rate: float = 2e-5,
        adapted: Sequence[str] = ("*",),
        strength: float = 1.0,
        transform: Sequence[Step] = (),
        features: int | None = None,
        **learner: Any,
    ) -> None:
        # before the base class freezes a network that is not trained on training classes
        self.adapted, names = tuple(adapted), list(select(network, adapted))
        self._tuned_setting = settings_of_parts(network.modules())
        head = with_transform(LogisticRegression(strength), transform, network, features)
        super().__init__(network, linear_classifier(network, classes, features), head, classes, **learner)
        at_least(1, pairs_per_class=pairs_per_class, batch_size=batch_size)
        at_least(0, epochs=epochs)
        self.pairs_per_class, self.epochs, self.batch_size = pairs_per_class, epochs, batch_size
        self.learning_rate, self.adapted_names = positive("learning_rate", learning_rate), names

    def setting(self) -> dict[str, Any]:
        """Add the fine-tuning to the reported settings."""
        return {
            **super().setting(),
            **self._tuned_setting,
            "fine_tuning": f"pairs of support examples, {self.pairs_per_class} alike and as many different per class, "
            f"{self.epochs} epoch(s) in batches of {self.batch_size}, Adam {self.learning_rate:g}",
            "adapted": list(self.adapted),
        }

    def fine_tuned(self, meta: Params, support: Labelled, ways: int) -> Params:
        """Return ``meta`` with the network's parameters after lines 2 and 3."""
        adam = Adam(self.learning_rate, beta1=0.9)

        def loss(parameters: Params, pairs: Pairs) -> Tensor:
            first, second, target = pairs
            one, other = self.embedded({**meta, **parameters}, support.x, torch.cat([first, second])).chunk(2)
            cosine = F.cosine_similarity(one, other, dim=-1)
            return (cosine - target.to(cosine.dtype)).square().mean()

        # in half precision small steps would be rounded away
        with without_autocast(support.y.device):
            parameters = {f"network.{name}": meta[f"network.{name}"] for name in self.adapted_names}
            state = adam.init(parameters)
            for pairs in self.batches(support, ways):
                gradient = grad(loss)(parameters, pairs)  # line 3
                parameters, state = adam(gradient, state, parameters, support.y)
        return {**meta, **parameters}

    def batches(self, support: Labelled, ways: int) -> Iterator[Pairs]:
        """Yield the batches of pairs of all epochs."""
        if not self.epochs:
            return
        size, device = 2 * self.pairs_per_class * ways, support.y.device
        numbers = uniform_like(torch.empty(size, 2, count(support.x), device=device))
        pairs = contrastive_pairs(support.y, ways, numbers)  # line 2
        for _ in range(self.epochs):
            order = uniform_like(torch.empty(size, device=device)).argsort()
            for rows in torch.split(order, self.batch_size):
                first, second, target = (part.index_select(0, rows) for part in pairs)
                yield first, second, target

    def embedded(self, meta: Params, x: Any, rows: Tensor) -> Tensor:
        """Return the embeddings ``[m, D]`` of the support examples at ``rows`` ``[m]``."""
        # the cheaper of two ways to the same numbers
        if len(rows) < count(x):
            return self.embed(meta, selected(x, rows))
        return self.embed(meta, x).index_select(0, rows)
