"""The Lightning callback that writes figures into the run folder."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities import move_data_to_device
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from metalit.algorithms import MetaLearner
from metalit.algorithms.generative.base import GenerativeMetaLearner
from metalit.algorithms.reinforcement.base import PolicyLearner, steps_of
from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.data.environment_tasks import EnvironmentTasks
from metalit.data.module import EpisodicDataModule
from metalit.environments import LiveEnvironment, Navigation
from metalit.environments.filmed import CannotRenderError
from metalit.episode import Episode
from metalit.errors import at_least
from metalit.evaluation.films import filmed, write_gif
from metalit.evaluation.names import names_of_test
from metalit.figures import (
    adaptation,
    adaptation_curve,
    episode_sheet,
    film,
    film_strip,
    is_sheet_possible,
    learning_curves,
    sample_sheet,
    trajectories,
)
from metalit.metrics import primary_metric, summarise
from metalit.runs.folder import writable_run_folder
from metalit.runs.training_log import TrainingLog

HOW_TO_RENDER = (
    "MuJoCo renders without a screen if MUJOCO_GL is egl, on a GPU's driver, or osmesa, with the package libosmesa6"
)


class Figures(L.Callback):
    """Writes figures into the run folder (``default_root_dir``).

    At each validation during ``fit``: ``samples.png`` for algorithms that generate images. After ``fit``:
    ``learning_curves.png``, from the CSV logger's metrics. After ``test``: ``adaptation_curve.png`` for algorithms that
    adapt in steps; ``adaptation.png`` for regression with one input and one output; ``episode.png`` for classification
    of images; ``trajectories.png`` for policies in the plane; ``film.gif`` and ``frames.png`` for policies in live
    environments that can render. TensorBoard and W&B get all of them as ``figures/...``, if their loggers are there.
    Nothing is drawn in a ``fast_dev_run``.

    Args:
        tasks: number of tasks shown in ``adaptation.png``, ``trajectories.png`` and ``samples.png``, at least 1.
        dpi: resolution in dots per inch, at least 1.
        films: number of test tasks in ``film.gif`` and ``frames.png``; 0 for no film.

    Raises:
        SettingError: an argument is too small.
    """

    def __init__(self, tasks: int = 4, dpi: int = 150, films: int = 1) -> None:
        at_least(1, tasks=tasks, dpi=dpi)
        at_least(0, films=films)
        self.tasks, self.dpi, self.films = tasks, dpi, films

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
                self._save(trainer, folder / "samples.png", figure)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Draw the learning curves from the metrics of the CSV logger, if there is one."""
        logger = next((logger for logger in trainer.loggers if isinstance(logger, CSVLogger)), None)
        folder = writable_run_folder(trainer)
        if folder is None or logger is None:
            return
        logger.save()  # Lightning flushes the last rows only after this hook
        log = TrainingLog.read(Path(logger.log_dir) / "metrics.csv")
        if log.has("loss"):
            self._save(trainer, folder / "learning_curves.png", learning_curves(log))

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
                self._save(trainer, folder / "adaptation_curve.png", adaptation_curve(by_step))
        if isinstance(pl_module, PolicyLearner):
            self._draw_trajectories(trainer, folder, pl_module)
            return
        if not isinstance(datamodule, EpisodicDataModule):
            return
        episode = datamodule.episodes("test", 0, 1)
        if is_sheet_possible(episode):
            names_of = names_of_test(trainer)
            shown = () if names_of is None else names_of(0)
            sheet = episode_sheet(episode, _predictions(trainer, pl_module, episode)[:, -1], *shown)
            self._save(trainer, folder / "episode.png", sheet)
        elif _is_curve(episode):
            episode = datamodule.episodes("test", 0, self.tasks)
            figure = adaptation(episode, _predictions(trainer, pl_module, episode))
            self._save(trainer, folder / "adaptation.png", figure)

    def _draw_trajectories(self, trainer: L.Trainer, folder: Path, learner: PolicyLearner) -> None:
        data = learner.data
        if not isinstance(data, EnvironmentTasks):
            return
        if isinstance(data.environment, LiveEnvironment) and self.films:
            self._film(trainer, folder, learner, data)
        # only there do observations begin with the position
        elif isinstance(data.environment, Navigation) and isinstance(learner, PolicyGradientMetaLearner):
            self._draw_paths(trainer, folder, learner, data)

    def _draw_paths(
        self, trainer: L.Trainer, folder: Path, learner: PolicyGradientMetaLearner, data: EnvironmentTasks
    ) -> None:
        tasks = data.make_stream("test")(0, self.tasks)
        support, query, _ = learner.experience(move_data_to_device(tasks, learner.device), training=False).episode
        steps = learner.steps_in_evaluation()
        if steps:
            first = support.x[:, 0, ..., :2], steps_of(support).mask[:, 0]
            last = query.x[..., :2], steps_of(query).mask
            figure = trajectories(tasks.parameters, first, last, steps)
            self._save(trainer, folder / "trajectories.png", figure)

    def _film(self, trainer: L.Trainer, folder: Path, learner: PolicyLearner, data: EnvironmentTasks) -> None:
        stream, precision = data.make_stream("test"), trainer.precision_plugin
        tasks = [move_data_to_device(stream(number, 1), learner.device) for number in range(self.films)]
        try:
            with precision.forward_context():
                found = [filmed(learner, data, precision.convert_input(task)) for task in tasks]
        except CannotRenderError as error:
            rank_zero_info(f"No film: {error}. {HOW_TO_RENDER}")
            return
        scenes, every = [scene for scene, _ in found], found[0][1]
        write_gif(folder / "film.gif", film(scenes, every))
        self._announce(trainer, folder / "film.gif")
        self._save(trainer, folder / "frames.png", film_strip(scenes))

    def _save(self, trainer: L.Trainer, path: Path, figure: Figure) -> None:
        figure.savefig(path, dpi=self.dpi)
        self._announce(trainer, path)

    def _announce(self, trainer: L.Trainer, path: Path) -> None:
        """Tell the user and TensorBoard of a picture; W&B's logger looks for new ones at the end of a stage."""
        if path.stem != "samples":  # at every validation
            rank_zero_info(f"Figure: {path}")
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                send_picture(logger.experiment, path, trainer.global_step)


def send_picture(writer: Any, path: Path, step: int) -> None:
    """Send a picture file to TensorBoard as it is: its ``add_image`` would make a still of an animation."""
    from tensorboard.compat.proto.summary_pb2 import Summary  # slow to import

    with Image.open(path) as picture:
        width, height = picture.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
    value = Summary.Value(tag=f"figures/{path.stem}", image=image)
    writer.file_writer.add_summary(Summary(value=[value]), step)


def _is_curve(episode: Episode) -> bool:
    parts = (episode.support.x, episode.support.y, episode.query.x, episode.query.y)
    return all(isinstance(part, Tensor) and part.ndim == 3 and part.shape[-1] == 1 for part in parts)


@torch.no_grad()
def _predictions(trainer: L.Trainer, learner: MetaLearner, episode: Episode) -> Tensor:
    precision = trainer.precision_plugin  # Lightning applies it within its steps only, and this is a hook
    episode = precision.convert_input(move_data_to_device(episode, learner.device))
    with precision.forward_context():
        return learner.evaluate(episode).predictions
