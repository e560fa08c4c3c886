"""The base class of heads, which predict for embedded queries from an embedded support set."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from metalit.episode import Labelled


class Head(nn.Module, ABC):
    """A classifier of embeddings that is fitted to a support set; some heads fit regression targets too, or only these.

    The logits, or predicted values, are differentiable with respect to the embeddings. A head may have meta-parameters
    of its own.

    ``fit`` does all the work on the support set; ``classify`` can then be called for any number of query sets.

    Attributes:
        transductive: whether the logits of a query depend on the other queries.
        classifies: whether the head takes class labels, ``[S]`` int64.
        regresses: whether the head takes regression targets, ``[S, outputs]`` float; ``ways`` is then 0, and what
            ``classify`` returns are values ``[Q, outputs]``.
        honours_masks: whether ``fit`` leaves out the places where a padded support set has no example. Methods refuse
            tasks of unequal size with a head that does not.
    """

    transductive: bool = False
    classifies: bool = True
    regresses: bool = False
    honours_masks: bool = False

    @abstractmethod
    def fit(self, support: Labelled, ways: int) -> Any:
        """Return the classifier of one task as a pytree of tensors.

        Args:
            support: embeddings ``x [S, D]``, or feature maps ``[S, C, H, W]`` for a head that documents it, and labels
                ``y [S]`` in 0..N-1, each occurring at least once.
            ways: N.
        """

    @abstractmethod
    def classify(self, fitted: Any, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``.

        Args:
            fitted: the return value of ``fit``.
            query: embeddings ``[Q, D]``, or feature maps.
        """

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Fit the support set and classify the queries.

        Args:
            support: embeddings ``x [S, D]``, or feature maps ``[S, C, H, W]`` for a head that documents it, and labels
                ``y [S]`` in 0..N-1, each occurring at least once.
            query: embeddings ``[Q, D]``, or feature maps.
            ways: N.

        Returns:
            logits ``[Q, N]``.
        """
        return self.classify(self.fit(support, ways), query)
