"""From the user's own tables of complexes to affinities: clusters are learned from measured complexes."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.task_learner import TaskLearner
from metalit.data import MetaScore
from metalit.data.complexes.listing import Listed, read_listing
from metalit.data.complexes.metascore import check_files, read_complexes
from metalit.data.complexes.ragged import RaggedComplexes
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.functional.batches import by_batches
from metalit.metrics.task_metrics import pearson, rmse

BATCH = 64  # complexes predicted at once; affects memory and speed only


class PredictedComplexes(NamedTuple):
    """The complexes of a table with their predicted affinities.

    Attributes:
        lines: the lines of the table.
        affinities: ``[n]`` pK; NaN where there is none.
        learned: clusters that were learned, by name; the empty name if tables have no clusters.
        zero_shot: clusters without a measured complex, predicted without adaptation.
        left_out: clusters without a measured complex, of a method that predicts nothing without.
    """

    lines: Sequence[Listed]
    affinities: Tensor
    learned: list[str]
    zero_shot: list[str]
    left_out: list[str]

    def rows(self) -> Iterable[Sequence[Any]]:
        """Yield the header and one row for each complex."""
        yield ["complex", "cluster", "predicted affinity", "adapted", "affinity"]
        for line, value in zip(self.lines, self.affinities.tolist(), strict=True):
            known = "" if value != value else f"{value:.4f}"  # NaN differs from itself
            measured = "" if line.affinity is None else f"{line.affinity:g}"
            yield [line.name, line.cluster, known, "yes" if line.cluster in self.learned else "no", measured]

    def judged(self) -> str:
        """Return what the predictions are worth, by the affinities that the table has; empty without any."""
        known = [i for i, line in enumerate(self.lines) if line.affinity is not None]
        known = [i for i in known if not self.affinities[i].isnan()]
        if not known:
            return ""
        measured = torch.tensor([[[self.lines[i].affinity] for i in known]], dtype=torch.float64)
        predicted = self.affinities[known][None, :, None]
        correlation = pearson(predicted, measured, None).item()
        shown = "undefined" if correlation != correlation else f"{correlation:.3f}"
        error = rmse(predicted, measured, None).item()
        return f"Pearson {shown}, root mean squared error {error:.3f} pK on {len(known)} complexes with an affinity"


def predict_complexes(learner: TaskLearner, data: MetaScore, support: Path, query: Path) -> PredictedComplexes:
    """Learn clusters from measured complexes, and predict others.

    Args:
        learner: the trained learner.
        data: the data module of its training, whose columns the tables have.
        support: a table of complexes with affinities.
        query: a table of complexes. They are predicted from the support of the same cluster; if neither table has a
            column of clusters, all are one cluster. Clusters that the support lacks are predicted without adaptation.

    Raises:
        FileNotFoundError: a table or a file of graphs does not exist.
        UserError: a table or a file cannot be used, or only one of the tables has clusters.
    """
    given = own_listing(data, support, ("complex", "affinity"))
    asked = own_listing(data, query, ("complex",))
    check_clusters(given, asked, support, query)
    files = [line.file for line in (*given, *asked)]
    complexes = RaggedComplexes.of(read_complexes(files))
    found = PredictedComplexes(asked, torch.full((len(asked),), torch.nan, dtype=torch.float64), [], [], [])
    for name in dict.fromkeys(line.cluster for line in asked):
        own = [i for i, line in enumerate(given) if line.cluster == name]
        wanted = [i for i, line in enumerate(asked) if line.cluster == name]
        parts = complexes.parts(torch.tensor(own, dtype=torch.int64), torch.tensor(wanted) + len(given))
        y = torch.tensor([[given[i].affinity] for i in own], dtype=torch.get_default_dtype())
        values = predicted(learner, data, y, parts)
        kind = found.learned if own else found.left_out if values is None else found.zero_shot
        kind.append(name)
        if values is not None:
            found.affinities[torch.tensor(wanted)] = values
    return found


def own_listing(data: MetaScore, table: Path, needed: Sequence[str]) -> list[Listed]:
    """Return the lines of a user's table, whose files lie in ``graphs`` beside it or, without that, of the training."""
    beside = table.parent / "graphs"
    lines = read_listing(table, beside if beside.is_dir() else data.graphs, data.columns, needed, "--columns")
    check_files(table, lines)
    return lines


def check_clusters(given: Sequence[Listed], asked: Sequence[Listed], support: Path, query: Path) -> None:
    """Raise a ``UserError`` if one table has clusters and the other has not."""
    has = [any(line.cluster for line in lines) for lines in (given, asked)]
    if has[0] != has[1]:
        one, other = (support, query) if has[0] else (query, support)
        raise UserError(
            f"{one} has a column of clusters and {other} has not: add it, or leave it out of both, and all complexes "
            "are one cluster"
        )


@torch.no_grad()
def predicted(learner: TaskLearner, data: MetaScore, y: Tensor, parts: Sequence[Any]) -> Tensor | None:
    """Return the affinities ``[n]`` of the second part, learned from the first; None if that is empty and needed."""
    support, query = (data.expanded(part) for part in parts)
    if len(y):
        predictor = learner.adapt(Labelled(support, y))
        values = by_batches(predictor, query, BATCH)
    elif isinstance(learner, GradientBasedMetaLearner):
        values = by_batches(learner.evaluation_copy().network, query, BATCH)
    else:
        return None
    return values[:, 0].double()
