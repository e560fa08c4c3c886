"""The options of a job's runs, checked before anything is submitted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metalit.cli.command_line import RUN_ONLY_KEYS, MetalitCLI
from metalit.cluster.base import Cluster
from metalit.commands.sweeps import Point, command_of
from metalit.errors import UserError

LAST = Path("checkpoints") / "last.ckpt"


class Run(NamedTuple):
    """A run that has been checked and can be submitted.

    Attributes:
        name: name of the sweep's point; empty without a sweep.
        folder: the run folder, absolute.
        config: all settings, as YAML.
        checkpoint: the checkpoint to start from, as the user gave it.
    """

    name: str
    folder: Path
    config: str
    checkpoint: str | None


class CheckedOptions(MetalitCLI):
    """The options of a run, checked by building model, data and callbacks without running anything.

    Args:
        args: an ordinary command.
        cluster: the cluster to submit to.
    """

    def __init__(self, args: Sequence[str], cluster: Cluster) -> None:
        self.cluster = cluster
        logging.disable(logging.INFO)  # Lightning's messages about the run belong in the run's log
        try:
            super().__init__(args)
        finally:
            logging.disable(logging.NOTSET)

    def before_instantiate_classes(self) -> None:
        """Keep the user's checkpoint and folder before they are resolved; let the cluster set what it decides."""
        config = self.config[self.subcommand]
        # The script names last and best as they are: which file they mean is known only when the job starts.
        self.checkpoint, self.folder = config.ckpt_path, config.run_dir or config.trainer.default_root_dir
        super().before_instantiate_classes()
        self.cluster.settle(config.trainer)

    def instantiate_classes(self) -> None:
        """Build everything but the trainer, which needs the job's devices, and loggers, which may need the network."""
        config = self.config.clone()
        config[self.subcommand].trainer.logger = False
        self.parser.instantiate(config)

    def run_command(self, command: str) -> None:
        """Do nothing: the job runs the command."""

    def run(self, name: str) -> Run:
        """Return the run that the options describe.

        Args:
            name: name of the sweep's point; empty without a sweep.
        """
        config = self.config[self.subcommand].clone()
        folder = Path(config.run_dir).absolute()
        for key in RUN_ONLY_KEYS:
            config[key] = None
        text = str(self.parser_of(self.subcommand).dump(config, skip_unset=False))
        return Run(name, folder, text, self.checkpoint)


def check_runs(
    command: Sequence[str], cluster: Cluster, points: Sequence[Point] | None, sweep_folder: Path
) -> tuple[Path, list[Run]]:
    """Return the job's folder and its runs: one, or one for each point of a sweep, in folders inside the job's.

    Args:
        command: an ordinary command.
        cluster: the cluster to submit to.
        points: points of the sweep, or None without one.
        sweep_folder: folder of the sweep if the command names none.

    Raises:
        SystemExit: with code 2 after a mistake in the options.
    """
    if points is None:
        run = CheckedOptions(command, cluster).run("")
        return run.folder, [run]
    # Only a full parse shows whether the command, or a config file that it names, sets the folder.
    folder = Path(CheckedOptions(command_of(command, points[0]), cluster).folder or sweep_folder).absolute()
    runs = []
    for point in points:
        # Given last, so that it overrides the command's own --run_dir, which names the folder of the sweep.
        own = ["--run_dir", str(folder / point.name)]
        runs.append(CheckedOptions([*command_of(command, point), *own], cluster).run(point.name))
    return folder, runs


def check_start(run: Run) -> None:
    """Refuse to start a new training in the folder of an old one.

    The job's script resumes from ``last`` whenever it starts, so it would resume the old training.

    Raises:
        UserError: with the ways out.
    """
    last = run.folder / LAST
    if not last.exists() or run.checkpoint == "last" or (run.checkpoint and Path(run.checkpoint).absolute() == last):
        return
    raise UserError(
        f"run_dir: {run.folder} has the checkpoint of an earlier training; give --ckpt_path last to go on with that, "
        "or another --run_dir to start a new one"
    )
