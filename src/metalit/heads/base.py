"""A head: how a task's embedded support set classifies embedded queries."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from metalit.episode import Labelled


class Head(nn.Module, ABC):
    """A classifier made from a support set in one go, differentiable in the embeddings. It may have parameters."""

    @abstractmethod
    def forward(self, support: Labelled, query: Tensor, ways: int) -> Tensor:
        """Classify the queries of one task.

        Args:
            support: embeddings ``x [S, D]``, or maps ``[S, C, H, W]`` where a head says so, and labels ``y [S]`` in
                0..N-1, each at least once.
            query: embeddings ``[Q, D]``, or maps.
            ways: N.

        Returns:
            logits ``[Q, N]``.
        """
