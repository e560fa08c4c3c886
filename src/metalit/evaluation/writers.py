"""Lightning callbacks that write results and predictions into the run folder."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import lightning as L
import torch
from lightning.pytorch.trainer.states import TrainerFn
from rich.console import Console
from rich.table import Table
from torch import Tensor

from metalit.algorithms import MetaLearner
from metalit.data.module import EpisodeNames
from metalit.evaluation.names import names_of_test
from metalit.evaluation.results import EPISODES_FILE, build_results, write_results
from metalit.evaluation.table import results_table
from metalit.files import write_csv
from metalit.ranks import gather_objects
from metalit.runs.folder import writable_run_folder
from metalit.runs.versions import software_versions


class ResultsWriter(L.Callback):
    """Writes ``results.json`` and ``episodes.csv`` after ``test`` and ``validate``, and prints the results as a table.

    The files go into the run folder (``default_root_dir``); existing results are renamed with a number. Nothing is
    written in a ``fast_dev_run``.

    Args:
        show_table: print the table of results.
    """

    def __init__(self, show_table: bool = True) -> None:
        self.show_table = show_table
        self._printed: list[Table | str] = []

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the test results."""
        self._write("test", trainer, cast(MetaLearner, pl_module))

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the results of ``validate``."""
        if trainer.state.fn == TrainerFn.VALIDATING:  # validations within fit are in the log
            self._write("val", trainer, cast(MetaLearner, pl_module))

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Print the table and the paths of the files."""
        # not in on_test_end: a progress bar is still on the terminal's last line there
        console = Console()
        for item in self._printed:
            console.print(item, soft_wrap=isinstance(item, str), highlight=False)
        self._printed = []

    def _write(self, split: str, trainer: L.Trainer, learner: MetaLearner) -> None:
        evaluation = learner.last_evaluation
        if not trainer.is_global_zero or evaluation is None or len(evaluation.indices) == 0:
            return
        datamodule = getattr(trainer, "datamodule", None)  # None if the user passes loaders instead
        setting = {**(datamodule.setting() if datamodule else {}), **learner.setting()}
        checkpoint = None if trainer.ckpt_path is None else str(trainer.ckpt_path)
        results = build_results(split, evaluation, setting, checkpoint, software_versions())
        if self.show_table:
            self._printed.append(results_table(results))
        folder = writable_run_folder(trainer)
        if folder is not None:
            path = write_results(folder, results, evaluation)
            self._printed.append(f"Results are in {path}, each episode's values in {path.with_name(EPISODES_FILE)}")


class PredictionWriter(L.Callback):
    """Writes ``predictions.csv`` into the run folder during ``predict``, with one line per query example.

    Columns: ``episode, query, target, prediction`` and, in classification, the ``probability`` of the prediction and,
    if the data set has a ``ClassStore``, the names: ``target_class, prediction_class`` and ``file``. In regression with
    several outputs, targets and predictions are numbered: ``target_0, target_1, ...``. The predictions of all ranks are
    gathered first. Nothing is written in a ``fast_dev_run``.
    """

    def __init__(self) -> None:
        self._episodes: dict[int, tuple[Tensor, Tensor]] = {}

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Discard earlier predictions."""
        self._episodes = {}

    def on_predict_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Mapping[str, Tensor], *args: Any, **kwargs: Any
    ) -> None:
        """Keep a batch of predictions: index ``[B]``, predictions and targets ``[B, Q, ...]``, and a mask or none."""
        # in host memory, because they accumulate until the end
        index = outputs["index"].tolist()
        predictions, targets = (outputs[name].detach().cpu() for name in ("predictions", "targets"))
        masks = outputs["mask"].cpu() if "mask" in outputs else torch.ones(predictions.shape[:2], dtype=torch.bool)
        # the padding of tasks of unequal size is no query
        queries = ((one[mask], other[mask]) for one, other, mask in zip(predictions, targets, masks, strict=True))
        self._episodes |= dict(zip(index, queries, strict=True))

    def on_predict_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the predictions of all ranks, ordered by episode."""
        # on every rank, before rank zero goes on alone
        episodes = {index: pair for part in gather_objects(self._episodes) for index, pair in part.items()}
        folder = writable_run_folder(trainer)
        if folder is None or not episodes:
            return
        path = folder / "predictions.csv"
        write_csv(path, _prediction_rows(episodes, names_of_test(trainer)))
        Console().print(f"\nPredictions are in {path}", soft_wrap=True, highlight=False)


def _prediction_rows(
    episodes: Mapping[int, tuple[Tensor, Tensor]], names_of: Callable[[int], EpisodeNames] | None
) -> Iterable[list[Any]]:
    predictions, targets = next(iter(episodes.values()))
    classification, outputs = not targets.is_floating_point(), predictions.shape[-1]
    if classification:
        names = ["target_class", "prediction_class", "file"] if names_of else []
        yield ["episode", "query", "target", "prediction", "probability", *names]
    else:
        numbers = [""] if outputs == 1 else [f"_{output}" for output in range(outputs)]
        yield ["episode", "query", *(name + number for name in ("target", "prediction") for number in numbers)]
    for index in sorted(episodes):
        predictions, targets = episodes[index]
        if classification:
            probability, prediction = predictions.double().softmax(-1).max(-1)
            columns = [targets.tolist(), prediction.tolist(), probability.tolist()]
            columns += [] if names_of is None else _name_columns(names_of(index), columns[0], columns[1])
        else:
            columns = [column.tolist() for column in (*targets.unbind(-1), *predictions.unbind(-1))]
        for query, values in enumerate(zip(*columns, strict=True)):
            yield [index, query, *values]


def _name_columns(names: EpisodeNames, targets: list[int], predictions: list[int]) -> list[list[str]]:
    classes = [[names.classes[label] for label in labels] for labels in (targets, predictions)]
    return [*classes, names.query or [""] * len(targets)]
