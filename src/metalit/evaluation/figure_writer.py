"""The Lightning callback that writes figures into the run folder."""

from pathlib import Path

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from matplotlib.figure import Figure
from torch import Tensor

from metalit.algorithms import MetaLearner
from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.reinforcement.base import PolicyLearner, steps_of
from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.data.environment_tasks import EnvironmentTasks
from metalit.data.module import EpisodicDataModule
from metalit.environments import Navigation
from metalit.episode import Episode
from metalit.errors import at_least
from metalit.evaluation.names import names_of_test
from metalit.figures import (
    adaptation,
    adaptation_curve,
    episode_sheet,
    is_sheet_possible,
    learning_curves,
    sample_sheet,
    trajectories,
)
from metalit.metrics import primary_metric, summarise
from metalit.runs.folder import writable_run_folder
from metalit.runs.training_log import TrainingLog


class Figures(L.Callback):
    """Writes figures into the run folder (``default_root_dir``).

    At each validation during ``fit``: ``samples.png`` for algorithms that generate images, also sent to TensorBoard,
    which keeps the figures of all validations. After ``fit``: ``learning_curves.png``, from the CSV logger's metrics.
    After ``test``: ``adaptation_curve.png`` for algorithms that adapt in steps; ``adaptation.png`` for regression with
    one input and one output; ``episode.png`` for classification of images; ``trajectories.png`` for policies in the
    plane. Nothing is drawn in a ``fast_dev_run``.

    Args:
        tasks: number of tasks shown in ``adaptation.png``, ``trajectories.png`` and ``samples.png``, at least 1.
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
        if isinstance(pl_module, GenerativeMetaLearner) and isinstance(datamodule, EpisodicDataModule):
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
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        folder = writable_run_folder(trainer)
        if folder is None or logger is None:
            return
        logger.save()  # Lightning flushes the last rows only after this hook
        log = TrainingLog.read(Path(logger.log_dir) / "metrics.csv")
        if log.has("loss"):
            self._save(folder / "learning_curves.png", learning_curves(log))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the adaptation curve, and test episodes with their predictions."""
        folder, datamodule = writable_run_folder(trainer), getattr(trainer, "datamodule", None)
        if folder is None or not isinstance(pl_module, MetaLearner):
            return
        evaluation = pl_module.last_evaluation
        if evaluation is not None and evaluation.values:
            primary = primary_metric(evaluation.values)
            # in regression the loss would show the squared error twice
            names = [primary, "loss"] if primary == "accuracy" else [primary]
            by_step = {name: [summarise(column) for column in evaluation.values[name].unbind(dim=1)] for name in names}
            if len(by_step[primary]) > 1:
                self._save(folder / "adaptation_curve.png", adaptation_curve(by_step))
        if isinstance(pl_module, PolicyLearner):
            self._draw_paths(folder, pl_module)
            return
        if not isinstance(datamodule, EpisodicDataModule):
            return
        episode = datamodule.episodes("test", 0, 1)
        if is_sheet_possible(episode):
            names_of = names_of_test(trainer)
            shown = () if names_of is None else names_of(0)
            sheet = episode_sheet(episode, _predictions(trainer, pl_module, episode)[:, -1], *shown)
            self._save(folder / "episode.png", sheet)
        elif _is_curve(episode):
            episode = datamodule.episodes("test", 0, self.tasks)
            figure = adaptation(episode, _predictions(trainer, pl_module, episode))
            self._save(folder / "adaptation.png", figure)

    def _draw_paths(self, folder: Path, learner: PolicyLearner) -> None:
        data = learner.data
        if not (isinstance(learner, PolicyGradientMetaLearner) and isinstance(data, EnvironmentTasks)):
            return
        if not isinstance(data.environment, Navigation):
            return  # only there do observations begin with the position
        tasks = data.make_stream("test")(0, self.tasks)
        support, query, _ = learner.experience(move_data_to_device(tasks, learner.device), training=False).episode
        steps = learner.steps_in_evaluation()
        if steps:
            first = support.x[:, 0, ..., :2], steps_of(support).mask[:, 0]
            last = query.x[..., :2], steps_of(query).mask
            figure = trajectories(tasks.parameters, first, last, steps)
            self._save(folder / "trajectories.png", figure)

    def _save(self, path: Path, figure: Figure) -> None:
        figure.savefig(path, dpi=self.dpi)
        rank_zero_info(f"Figure: {path}")


def _is_curve(episode: Episode) -> bool:
    parts = (episode.support.x, episode.support.y, episode.query.x, episode.query.y)
    return all(isinstance(part, Tensor) and part.ndim == 3 and part.shape[-1] == 1 for part in parts)


@torch.no_grad()
def _predictions(trainer: L.Trainer, learner: MetaLearner, episode: Episode) -> Tensor:
    precision = trainer.precision_plugin  # Lightning applies it within its steps only, and this is a hook
    episode = precision.convert_input(move_data_to_device(episode, learner.device))
    with precision.forward_context():
        return learner.evaluate(episode).predictions
