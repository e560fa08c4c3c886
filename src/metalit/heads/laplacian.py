"""Nearest class means with labels that are smooth over the queries (LaplacianShot)."""

import torch
from torch import Tensor

from metalit.episode import Labelled
from metalit.errors import not_negative
from metalit.functional.distances import class_means, cosines, membership, squared_euclidean
from metalit.functional.laplacian import bound_updates, nearest_neighbours
from metalit.heads.base import Head
from metalit.tasks.precision import full_precision

SHARPNESS = 10.0  # factor of the cosines in the weights of rectified class means, as in the authors' code
Fitted = tuple[Tensor, Tensor]


class LaplacianRegularization(Head):
    """Squared distances to class means as costs, and labels that agree with those of the nearest other queries.

    Args:
        smoothness: lambda, >= 0; 0 ignores the neighbours.
        neighbours: number of other queries that each query is linked to, >= 0.
        iterations: bound updates, >= 0.
        rectify: shift the queries by the difference of the two sets' means, and let them take part in the class means.

    Raises:
        SettingError: a number is negative.
    """

    transductive = True

    def __init__(
        self, smoothness: float = 0.7, neighbours: int = 2, iterations: int = 20, rectify: bool = True
    ) -> None:
        super().__init__()
        self.smoothness = not_negative("smoothness", smoothness)
        self.neighbours = not_negative("neighbours", neighbours)
        self.iterations, self.rectify = not_negative("iterations", iterations), rectify

    def fit(self, support: Labelled, ways: int) -> Fitted:
        """Return class means ``[N, D]`` and support embeddings ``[S, D]``; the rest needs the queries."""
        return class_means(support.x, support.y, ways), support.x

    @full_precision
    def classify(self, fitted: Fitted, query: Tensor) -> Tensor:
        """Return logits ``[Q, N]`` after the last update."""
        means, support = fitted
        if self.rectify:
            query = query + (support.mean(dim=0) - query.mean(dim=0))
            means = rectified(means, torch.cat([support, query]))
        graph = nearest_neighbours(query, self.neighbours)
        return bound_updates(squared_euclidean(query, means), graph, self.smoothness, self.iterations)


def rectified(means: Tensor, examples: Tensor) -> Tensor:
    """Return class means ``[N, D]`` over all examples ``[n, D]`` that are closest to them, weighted by confidence.

    An example belongs to the class of the largest cosine; its weight is the softmax of ten times its cosines. The sum
    is divided by the number of examples, not by their weights, as in the authors' code.
    """
    similarities = cosines(examples, means)
    members = membership(similarities.argmax(dim=-1), len(means), examples).mT  # [n, N]
    weights = members * (SHARPNESS * similarities).softmax(dim=-1)
    # a class may lose all of its support examples to others
    return weights.mT @ examples / members.sum(dim=0).clamp(min=1).unsqueeze(-1)
