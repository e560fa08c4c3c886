"""The options of the runs of a job, checked before anything is submitted."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from metalit.cli.command_line import OF_ONE_RUN, MetalitCLI
from metalit.cluster.base import Cluster
from metalit.commands.sweeps import Point, command_of
from metalit.errors import UserError

LAST = Path("checkpoints") / "last.ckpt"


class Run(NamedTuple):
    """A run that may be submitted.

    Attributes:
        name: of the point of a sweep; empty without one.
        folder: the run folder, absolute.
        config: all settings, as YAML.
        checkpoint: where it starts from, as the user names it.
    """

    name: str
    folder: Path
    config: str
    checkpoint: str | None


class CheckedOptions(MetalitCLI):
    """The options of a run, checked to the last: model, data and callbacks are made, and nothing runs."""

    def __init__(self, args: Sequence[str], cluster: Cluster) -> None:
        self.cluster = cluster
        logging.disable(logging.INFO)  # what there is to say of the run is for the run to say
        try:
            super().__init__(args)
        finally:
            logging.disable(logging.NOTSET)

    def before_instantiate_classes(self) -> None:
        """Note what the user names, before it is resolved; and let the cluster set what it decides."""
        config = self.config[self.subcommand]
        self.checkpoint, self.folder = config.ckpt_path, config.run_dir or config.trainer.default_root_dir
        super().before_instantiate_classes()
        self.cluster.settle(config.trainer)

    def instantiate_classes(self) -> None:
        """Make all but the trainer, which needs the job's devices, and loggers, which may need the network."""
        config = self.config.clone()
        config[self.subcommand].trainer.logger = False
        self.parser.instantiate(config)

    def run_command(self, command: str) -> None:
        """Leave that to the job."""

    def run(self, name: str) -> Run:
        """Return the run that the options describe."""
        config = self.config[self.subcommand].clone()
        folder = Path(config.run_dir).absolute()
        for key in OF_ONE_RUN:
            config[key] = None
        text = str(self.parser_of(self.subcommand).dump(config, skip_unset=False))
        return Run(name, folder, text, self.checkpoint)


def check_runs(
    command: Sequence[str], cluster: Cluster, points: Sequence[Point] | None, sweep_folder: Path
) -> tuple[Path, list[Run]]:
    """Return the job's folder, and its runs: one, or one for each point of a sweep, in folders within the job's.

    Args:
        command: an ordinary command.
        cluster: where it is to run.
        points: of the sweep, or None without one.
        sweep_folder: the folder of the sweep if the command names none.

    Raises:
        SystemExit: with code 2 after a mistake in the options.
    """
    if points is None:
        run = CheckedOptions(command, cluster).run("")
        return run.folder, [run]
    folder = Path(CheckedOptions(command_of(command, points[0]), cluster).folder or sweep_folder).absolute()
    runs = []
    for point in points:
        own = ["--run_dir", str(folder / point.name)]
        runs.append(CheckedOptions([*command_of(command, point), *own], cluster).run(point.name))
    return folder, runs


def check_start(run: Run) -> None:
    """Refuse a training from elsewhere in the folder of another: once started again it would go on with the other.

    Raises:
        ValueError: with what can be done.
    """
    last = run.folder / LAST
    if not last.exists() or run.checkpoint == "last" or (run.checkpoint and Path(run.checkpoint).absolute() == last):
        return
    raise UserError(
        f"run_dir: {run.folder} has the checkpoint of an earlier training; give --ckpt_path last to go on with that, "
        "or another --run_dir to start a new one"
    )
