"""Evaluation: per-episode values with their 95 % interval, result files, figures and the callbacks that write them."""

from metalit.evaluation.confusion import ConfusionWriter
from metalit.evaluation.episode_values import EpisodeValues, Evaluation
from metalit.evaluation.figure_writer import Figures
from metalit.evaluation.metrics import Summary, episode_metrics, primary_metric, summarise
from metalit.evaluation.progress import EpisodeProgressBar
from metalit.evaluation.results import (
    build_results,
    paired_difference,
    read_episodes,
    read_results,
    write_results,
)
from metalit.evaluation.table import results_table
from metalit.evaluation.writers import PredictionWriter, ResultsWriter

__all__ = [
    "ConfusionWriter",
    "EpisodeProgressBar",
    "EpisodeValues",
    "Evaluation",
    "Figures",
    "PredictionWriter",
    "ResultsWriter",
    "Summary",
    "build_results",
    "episode_metrics",
    "paired_difference",
    "primary_metric",
    "read_episodes",
    "read_results",
    "results_table",
    "summarise",
    "write_results",
]
