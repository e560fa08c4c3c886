"""Values of a cluster, their means over clusters, and differences of two methods on the same clusters."""

from collections.abc import Sequence

import torch
from torch import Tensor

from metalit.data import MetaScore
from metalit.data.stream import Split
from metalit.data.task_stream import TaskStream
from metalit.episode import Episode
from metalit.metrics import Summary
from metalit.metrics.intervals import summarise
from metalit.metrics.task_metrics import pearson, rmse, spearman

from .baselines import Predict

METRICS = {"Pearson": pearson, "Spearman": spearman, "RMSE": rmse}
Scores = dict[str, Tensor]


def episodes_of(data: MetaScore, split: Split, draws: int) -> list[Episode]:
    """Return so many divisions of each cluster of a split, all clusters once in each meta-batch."""
    stream = data.streams.setdefault(split, data.checked_stream(split))
    assert isinstance(stream, TaskStream)
    return [data.episodes(split, draw * len(stream), len(stream)) for draw in range(draws)]


@torch.no_grad()
def scores(predict: Predict, episodes: Sequence[Episode]) -> Scores:
    """Return each metric of each cluster, ``[clusters]``: the mean over its divisions; NaN if undefined in all."""
    found: dict[str, list[Tensor]] = {name: [] for name in METRICS}
    for episode in episodes:
        predictions = predict(episode)
        for name, metric in METRICS.items():
            found[name].append(metric(predictions, episode.query.y, episode.query.mask))
    return {name: torch.stack(values).double().nanmean(dim=0) for name, values in found.items()}


def over_clusters(values: Tensor) -> Summary | None:
    """Return mean and interval over the clusters for which a metric is defined; None if it is for none."""
    defined = values[~values.isnan()]
    return summarise(defined) if len(defined) else None


def difference(one: Tensor, other: Tensor) -> Summary | None:
    """Return mean and interval of ``one - other`` over the clusters for which both are defined."""
    return over_clusters(one - other)


def cell(summary: Summary | None) -> str:
    """Return a mean with its interval."""
    return "undefined" if summary is None else f"{summary.mean:.3f} ± {summary.ci95:.3f}"


def signed(summary: Summary | None) -> str:
    """Return a difference with its interval."""
    return "undefined" if summary is None else f"{summary.mean:+.3f} ± {summary.ci95:.3f}"


def undefined(values: Tensor) -> int:
    """Return for how many clusters a metric is undefined."""
    return int(values.isnan().sum())
