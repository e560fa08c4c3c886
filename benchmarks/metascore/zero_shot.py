"""The zero-shot group: clusters too small to adapt to, predicted without any of their own affinities."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from metalit.data import MetaScore
from metalit.data.task_store import TaskStore
from metalit.metrics.task_metrics import pearson, rmse

from .scores import Scores


class ZeroShot(NamedTuple):
    """Results of the group.

    Attributes:
        by_cluster: Pearson and RMSE of each cluster, NaN where undefined.
        together: Pearson over all complexes of the group.
        interval: its 95 % interval, by resampling clusters.
    """

    by_cluster: Scores
    together: float
    interval: tuple[float, float]


@torch.no_grad()
def zero_shot(network: nn.Module, data: MetaScore, resamples: int = 1000) -> ZeroShot:
    """Return how a network predicts the complexes of the zero-shot group before any adaptation."""
    store = data.load("test")
    rows = torch.arange(len(store.targets)).split(64)
    predictions = torch.cat([network(data.expanded(store.parts(each)[0])) for each in rows]).double()
    tasks = torch.arange(len(store.task_sizes)).repeat_interleave(torch.from_numpy(store.task_sizes))
    by_cluster = in_clusters(predictions, store, tasks)
    # clusters are drawn with replacement, all of their complexes with them
    drawn = torch.randint(len(store.task_sizes), (resamples, len(store.task_sizes)), generator=torch.Generator())
    weights = torch.stack([each.bincount(minlength=len(store.task_sizes)) for each in drawn])[:, tasks].double()
    values = weighted_pearson(predictions[:, 0], store.targets[:, 0].double(), weights)
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    together = pearson(predictions[None], store.targets[None].double(), None).item()
    return ZeroShot(by_cluster, together, (low, high))


def in_clusters(predictions: Tensor, store: TaskStore, tasks: Tensor) -> Scores:
    """Return Pearson and RMSE of each cluster, ``[clusters]``."""
    found: dict[str, list[Tensor]] = {"Pearson": [], "RMSE": []}
    for task in range(len(store.task_sizes)):
        own = predictions[tasks == task][None], store.targets[tasks == task][None].double(), None
        found["Pearson"].append(pearson(*own))
        found["RMSE"].append(rmse(*own))
    return {name: torch.cat(values) for name, values in found.items()}


def weighted_pearson(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Return the correlation of ``a`` and ``b`` ``[n]`` for each row of weights ``[m, n]``, ``[m]``."""
    weights = weights / weights.sum(dim=1, keepdim=True)
    a, b = a - (weights @ a)[:, None], b - (weights @ b)[:, None]
    return (weights * a * b).sum(1) / ((weights * a * a).sum(1) * (weights * b * b).sum(1)).sqrt()
