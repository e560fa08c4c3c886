"""Class centres that follow an optimal transport of the queries to the classes (PT-MAP)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.episode import Labelled
from metalit.errors import at_least, check, not_negative, positive
from metalit.functional.distances import membership, squared_euclidean
from metalit.functional.preprocessing import signed_root
from metalit.functional.sinkhorn import sinkhorn
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision


class TransportedMeans(Head):
    """Soft labels of the queries by optimal transport, and class centres that follow them.

    Support set and queries are each transformed by a power, scaled to unit length, centred on their own mean, and
    scaled to unit length again. Centres start at the class means of the support set; then, ``iterations`` times,

        P = plan of least squared distances with rows that sum to 1 and equal columns;   support labels are known
        centre_k <- centre_k + rate (weighted mean of all examples by P_k - centre_k)

    Args:
        power: beta, > 0.
        sharpness: lambda of the transport, > 0.
        rate: alpha, above 0 and at most 1.
        iterations: updates of the centres, >= 0.
        sinkhorn_iterations: iterations of the transport, >= 1.

    Raises:
        SettingError: a number is out of range.
    """

    transductive = True

    def __init__(
        self,
        power: float = 0.5,
        sharpness: float = 10.0,
        rate: float = 0.2,
        iterations: int = 20,
        sinkhorn_iterations: int = 200,
    ) -> None:
        super().__init__()
        check("rate", rate, 0 < rate <= 1, "a number in (0, 1]")
        at_least(1, sinkhorn_iterations=sinkhorn_iterations)
        self.power, self.sharpness, self.rate = positive("power", power), positive("sharpness", sharpness), rate
        self.iterations = not_negative("iterations", iterations)
        self.sinkhorn_iterations = sinkhorn_iterations

    def fit(self, support: Labelled, ways: int) -> tuple[Tensor, Tensor]:
        """Return the preprocessed support embeddings ``[S, D]`` and their one-hot class membership ``[N, S]``."""
        x = self.preprocessed(support.x)
        return x, membership(support.y, ways, x)

    @full_precision
    def classify(self, fitted: tuple[Tensor, Tensor], query: Tensor) -> Tensor:
        """Return the log of the transport plan after the last update, ``[Q, N]``, whose rows sum to 1."""
        support, members = fitted
        query = self.preprocessed(query)
        centres = members @ support / members.sum(dim=-1, keepdim=True)
        for _ in range(self.iterations):
            weights = torch.cat([members, self.plan(query, centres).exp().mT], dim=-1)  # [N, S + Q]
            means = weights @ torch.cat([support, query]) / weights.sum(dim=-1, keepdim=True)
            centres = centres + self.rate * (means - centres)
        return self.plan(query, centres)

    def plan(self, query: Tensor, centres: Tensor) -> Tensor:
        """Return the log of the transport plan of preprocessed queries, ``[Q, N]``."""
        return sinkhorn(squared_euclidean(query, centres), self.sharpness, self.sinkhorn_iterations)

    @full_precision
    def preprocessed(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of one set, after power transform, centring and scaling."""
        x = F.normalize(signed_root(x, self.power), dim=-1)
        # a set of one example is its own mean: without this it would become zero
        centred = x - x.mean(dim=0) if len(x) > 1 else x
        return F.normalize(centred, dim=-1)
