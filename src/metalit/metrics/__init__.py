"""Metrics: per-episode values gathered over batches and ranks, and their mean with its 95 % interval.

The rule of this room: it sees predictions and targets, but not how they are computed or where they are written.
"""

from metalit.metrics.episode_metrics import check_metrics, episode_metrics, primary_metric
from metalit.metrics.episode_values import EpisodeValues, Evaluation
from metalit.metrics.intervals import Summary, count_undefined, summarise, summarise_runs

__all__ = [
    "EpisodeValues",
    "Evaluation",
    "Summary",
    "check_metrics",
    "count_undefined",
    "episode_metrics",
    "primary_metric",
    "summarise",
    "summarise_runs",
]
