"""``predict --support`` of a run on protein-ligand complexes."""

from pathlib import Path

from jsonargparse import Namespace

from metalit.algorithms.task_learner import TaskLearner
from metalit.data import MetaScore
from metalit.errors import check
from metalit.files import keep_old, write_csv
from metalit.inference.complex_rows import predict_complexes
from metalit.inference.predicting import TABLE


def predict_affinities(options: Namespace, learner: TaskLearner, data: MetaScore, folder: Path) -> list[str]:
    """Learn clusters from one table, predict the complexes of another, and write them with their affinities.

    Returns:
        What to tell the user, line by line.
    """
    for name in ("threshold", "columns"):
        value = getattr(options, name)
        check(
            name, value, value is None, "none for complexes: columns are those of the training, and all are predicted"
        )
    found = predict_complexes(learner, data, Path(options.support), Path(options.query))
    table = folder / TABLE
    keep_old(table)
    write_csv(table, found.rows())
    told = []
    for names, what in (
        (found.zero_shot, "Without adaptation, as --support has no complex of them"),
        (found.left_out, "Not predicted, as --support has no complex of them"),
    ):
        if names:
            told.append(f"{what}: {', '.join(names[:3])}{', ...' if len(names) > 3 else ''} ({len(names)} clusters)")
    clusters = "1 cluster" if len(found.learned) == 1 else f"{len(found.learned)} clusters"
    told.append(f"Learned {clusters}, predicted {int((~found.affinities.isnan()).sum())} complexes")
    return [*told, *filter(None, [found.judged()]), f"Predictions are in {table}"]
