"""The Lightning callback that writes figures into the run folder."""

from pathlib import Path
from typing import Any, cast

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from matplotlib.figure import Figure
from torch import Tensor

from metalit.data.module import EpisodicDataModule
from metalit.episode import Episode
from metalit.errors import at_least
from metalit.evaluation.learner import EvaluatedLearner, GeneratingLearner
from metalit.figures import (
    adaptation,
    adaptation_curve,
    episode_sheet,
    is_sheet_possible,
    learning_curves,
    sample_sheet,
)
from metalit.metrics.episode_metrics import primary_metric, summarise
from metalit.runs.folder import writable_run_folder
from metalit.runs.training_log import TrainingLog


class Figures(L.Callback):
    """Writes figures into the run folder (``default_root_dir``).

    At each validation during ``fit``: ``samples.png`` for algorithms that generate images, also sent to TensorBoard,
    which keeps the figures of all validations. After ``fit``: ``learning_curves.png``, from the CSV logger's metrics.
    After ``test``: ``adaptation_curve.png`` for algorithms that adapt in steps; ``adaptation.png`` for regression with
    one input and one output; ``episode.png`` for classification of images. Nothing is drawn in a ``fast_dev_run``.

    Args:
        tasks: number of tasks shown in ``adaptation.png`` and ``samples.png``, at least 1.
        dpi: resolution in dots per inch, at least 1.

    Raises:
        SettingError: an argument is below 1.
    """

    def __init__(self, tasks: int = 4, dpi: int = 150) -> None:
        at_least(1, tasks=tasks, dpi=dpi)
        self.tasks, self.dpi = tasks, dpi

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw generated images for the first validation tasks."""
        folder, datamodule = writable_run_folder(trainer), getattr(trainer, "datamodule", None)
        if folder is None or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if isinstance(pl_module, GeneratingLearner) and isinstance(datamodule, EpisodicDataModule):
            # the same tasks at each validation, whose figures TensorBoard keeps side by side
            episode = datamodule.episodes("val", 0, self.tasks)
            if is_sheet_possible(episode):
                support = move_data_to_device(episode.support, pl_module.device)
                figure = sample_sheet(episode.support.x, pl_module.generated_examples(support))
                figure.savefig(folder / "samples.png", dpi=self.dpi)
                for logger in trainer.loggers:
                    if isinstance(logger, TensorBoardLogger):
                        logger.experiment.add_figure("val/samples", figure, trainer.global_step)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the learning curves from the metrics of the CSV logger, if there is one."""
        loggers = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
        folder = writable_run_folder(trainer)
        if folder is None or not loggers:
            return
        loggers[0].save()  # Lightning flushes the last rows only after this hook
        log = TrainingLog.read(Path(loggers[0].log_dir) / "metrics.csv")
        if log.has("loss"):
            self._save(folder / "learning_curves.png", learning_curves(log))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the adaptation curve, and test episodes with their predictions."""
        folder = writable_run_folder(trainer)
        if folder is None:
            return
        learner = cast(EvaluatedLearner, pl_module)
        self._draw_adaptation_curve(folder, learner)
        datamodule = getattr(trainer, "datamodule", None)
        if isinstance(datamodule, EpisodicDataModule):
            self._draw_episodes(folder, trainer, learner, datamodule)

    def _draw_adaptation_curve(self, folder: Path, learner: EvaluatedLearner) -> None:
        evaluation = learner.last_evaluation
        if evaluation is None or not evaluation.values:
            return
        primary = primary_metric(evaluation.values)
        # in regression the loss would show the squared error twice
        names = [primary, "loss"] if primary == "accuracy" else [primary]
        by_step = {name: [summarise(column) for column in evaluation.values[name].unbind(dim=1)] for name in names}
        if len(by_step[primary]) > 1:
            self._save(folder / "adaptation_curve.png", adaptation_curve(by_step))

    def _draw_episodes(
        self, folder: Path, trainer: L.Trainer, learner: EvaluatedLearner, datamodule: EpisodicDataModule
    ) -> None:
        episode = datamodule.episodes("test", 0, 1)
        if is_sheet_possible(episode):
            predictions = _predictions(trainer, learner, episode)
            self._save(folder / "episode.png", episode_sheet(episode, predictions[:, -1]))
        elif _is_curve(episode):
            episode = datamodule.episodes("test", 0, self.tasks)
            figure = adaptation(episode, _predictions(trainer, learner, episode))
            self._save(folder / "adaptation.png", figure)

    def _save(self, path: Path, figure: Figure) -> None:
        figure.savefig(path, dpi=self.dpi)
        rank_zero_info(f"Figure: {path}")


def _is_curve(episode: Episode) -> bool:
    parts: list[Any] = [*episode.support, *episode.query]
    return all(isinstance(part, Tensor) and part.ndim == 3 and part.shape[-1] == 1 for part in parts)


@torch.no_grad()
def _predictions(trainer: L.Trainer, learner: EvaluatedLearner, episode: Episode) -> Tensor:
    precision = trainer.precision_plugin  # Lightning applies it within its steps only, and this is a hook
    episode = precision.convert_input(move_data_to_device(episode, learner.device))
    with precision.forward_context():
        return learner.evaluate(episode).predictions
