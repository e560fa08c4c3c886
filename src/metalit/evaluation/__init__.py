"""Output of an evaluation: result files, predictions, tables and figures, and the callbacks that write them.

The rule of this room: it reads evaluations and writes files; metrics are computed in ``metrics`` alone.
"""

from metalit.evaluation.confusion import ConfusionWriter
from metalit.evaluation.figure_writer import Figures
from metalit.evaluation.progress import EpisodeProgressBar
from metalit.evaluation.results import build_results, paired_difference, read_episodes, read_results, write_results
from metalit.evaluation.table import results_table
from metalit.evaluation.writers import PredictionWriter, ResultsWriter

__all__ = [
    "ConfusionWriter",
    "EpisodeProgressBar",
    "Figures",
    "PredictionWriter",
    "ResultsWriter",
    "build_results",
    "paired_difference",
    "read_episodes",
    "read_results",
    "results_table",
    "write_results",
]
