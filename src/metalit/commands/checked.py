"""The options of a job's runs, checked before anything is submitted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metalit.cli.command_line import MetalitCLI, reusable
from metalit.cluster.base import Cluster
from metalit.commands.sweeps import Point, command_of


class Run(NamedTuple):
    """A run that has been checked and can be submitted."""

    name: str  # name of the sweep's point; empty without a sweep
    folder: Path  # the run folder, absolute
    config: str  # all settings, as YAML
    checkpoint: str | None  # the checkpoint to start from, as the user gave it


class CheckedOptions(MetalitCLI):
    """The options of a run, checked by building model, data and callbacks without running anything."""

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
        self.cluster.apply_to_trainer(config.trainer)

    def instantiate_classes(self) -> None:
        """Build everything but the trainer, which needs the job's devices, and loggers, which may need the network."""
        config = self.config.clone()
        config[self.subcommand].trainer.logger = False
        self.parser.instantiate(config)

    def run_command(self, command: str) -> None:
        """Do nothing: the job runs the command."""

    def run(self, name: str) -> Run:
        """Return the run that the options describe, under the name of the sweep's point."""
        config = self.config[self.subcommand]
        text = reusable(self.parser_of(self.subcommand), config)
        return Run(name, Path(config.run_dir).absolute(), text, self.checkpoint)


def check_runs(
    command: Sequence[str], cluster: Cluster, points: Sequence[Point] | None, sweep_folder: Path
) -> tuple[Path, list[Run]]:
    """Return the job's folder and its runs: one, or one for each point of a sweep, in folders inside the job's.

    ``sweep_folder`` is the folder of a sweep whose command names none.
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
