"""Class means compared by Mahalanobis distances (Bateni et al. 2020, Simple CNAPS)."""

from torch import Tensor

from metalit.episode import Labelled
from metalit.errors import check, positive
from metalit.functional.distances import membership
from metalit.functional.mahalanobis import squared_mahalanobis, whiteners
from metalit.functional.masks import without_padding
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision


class MahalanobisMeans(Head):
    """Compares a query with class means by the squared Mahalanobis distance, each class with its own covariance.

        logit_k = -scale (q - mean_k)' Q_k^-1 (q - mean_k),
        Q_k = lambda_k S_k + (1 - lambda_k) S + strength I,    lambda_k = min(n_k / (n_k + 1), largest_share)

    with S_k the covariance of the n_k support examples of class k, 0 if there is one, and S that of the whole support
    set. Nothing is learned: the covariances of a task follow from its embeddings.

    Args:
        strength: weight of the identity, > 0.
        largest_share: upper limit of lambda_k, in [0, 1]; at 0 all classes share the covariance of the task.
        scale: factor of the distance, > 0.

    Raises:
        SettingError: a number is out of range.
    """

    honours_masks = True

    def __init__(self, strength: float = 1.0, largest_share: float = 1.0, scale: float = 1.0) -> None:
        super().__init__()
        self.strength, self.scale = positive("strength", strength), positive("scale", scale)
        check("largest_share", largest_share, 0 <= largest_share <= 1, "a number from 0 to 1")
        self.largest_share = largest_share

    @full_precision
    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the class means ``[N, D]`` and, in float64, the matrices of ``functional.mahalanobis.whiteners``."""
        x = without_padding(support.x, support.mask)
        members = membership(support.y, ways, x, support.mask)
        means = members @ x / members.sum(dim=1, keepdim=True)
        return means, whiteners(x, members, self.strength, self.largest_share)

    @full_precision
    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return logits ``[Q, N]``."""
        means, whitener = fitted
        return -self.scale * squared_mahalanobis(query, means, whitener, self.strength)
