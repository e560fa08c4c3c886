"""A head: how a task's embedded support set classifies embedded queries."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from metalit.episode import Labelled


class Head(nn.Module, ABC):
    """A classifier fitted to a support set in one go, differentiable in the embeddings. It may have parameters.

    ``fit`` does all that the support set costs, once; ``classify`` can then be called for any number of queries.
    """

    @abstractmethod
    def fit(self, support: Labelled, ways: int) -> Any:
        """Return the classifier of one task, a pytree of tensors.

        Args:
            support: embeddings ``x [S, D]``, or maps ``[S, C, H, W]`` where a head says so, and labels ``y [S]`` in
                0..N-1, each at least once.
            ways: N.
        """

    @abstractmethod
    def classify(self, fitted: Any, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``.

        Args:
            fitted: what ``fit`` returned.
            query: embeddings ``[Q, D]``, or maps.
        """

    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Fit and classify.

        Args:
            support: embeddings ``x [S, D]``, or maps ``[S, C, H, W]`` where a head says so, and labels ``y [S]`` in
                0..N-1, each at least once.
            query: embeddings ``[Q, D]``, or maps.
            ways: N.

        Returns:
            logits ``[Q, N]``.
        """
        return self.classify(self.fit(support, ways), query)
