"""The command line: ``python train.py {fit,validate,test,predict} --config FILE [--data.ways 20 ...]``.

Lightning's own CLI with four changes: every run has one folder (``--run_dir``); options given beside ``--ckpt_path``
override the checkpoint's settings; the number of outputs of the network follows ``data.ways``; a mistake is reported in
one sentence.
"""

import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn, TextIO

import lightning as L
import torch
from jsonargparse.typing import PositiveInt
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from rich.console import Console

from metalit.algorithms import MetaLearner
from metalit.cli.errors import explain_error, innermost, set_owner
from metalit.cli.failures import DEBUG_VARIABLE, fail, mistakes
from metalit.cli.lost_ranks import end_with_other_rank, is_lost_rank
from metalit.cli.parser import ArgumentParser, add_links
from metalit.cli.plain import add_config, add_version, texts
from metalit.cli.program import program_name
from metalit.data import EpisodicDataModule
from metalit.errors import SettingError, UserError
from metalit.evaluation import ConfusionWriter, EpisodeProgressBar, Figures, PredictionWriter, ResultsWriter
from metalit.files import keep_old, write_text
from metalit.private import OpenCLI
from metalit.runs import (
    EpochEnd,
    GivenSettings,
    OwedValidation,
    Preemption,
    RandomStates,
    RunCheckpoint,
    WandbLogger,
    check_checkpoint,
    check_writable,
    claim,
    common_new_folder,
    resolve_checkpoint,
)

TRAINER_DEFAULTS = {
    "inference_mode": False,  # evaluation adapts to each task, and the inner steps need gradients
    "use_distributed_sampler": False,  # the episode loaders shard the episodes over ranks themselves
}
# config.yaml has none of these, so that it can be the --config of another run.
RUN_ONLY_KEYS = ("run_dir", "trainer.default_root_dir", "ckpt_path")
OWN_CALLBACKS: dict[str, tuple[Callable[[], Callback], ...]] = {
    "fit": (RandomStates, EpochEnd, OwedValidation, Preemption, Figures),
    "validate": (Preemption, ResultsWriter),
    "test": (Preemption, ResultsWriter, ConfusionWriter, Figures),
    "predict": (Preemption, PredictionWriter),
}


def as_list(given: Any) -> list[Any]:
    """Return one object, a list of objects or None as a list."""
    return given if isinstance(given, list) else [] if given is None else [given]


def reusable(parser: LightningArgumentParser, config: Any) -> str:
    """Return a run's settings as YAML, without those that belong to this run alone."""
    config = config.clone()
    for key in RUN_ONLY_KEYS:
        config[key] = None
    config.pop("verbose", None)  # of test alone: fit and predict would refuse it
    return str(parser.dump(config, skip_unset=False))


class SaveRunConfig(SaveConfigCallback):
    """Writes the resolved configuration of a run into its folder, ready to be used as ``--config``.

    A run begins with ``fit``, or with ``test`` if the method has nothing to train.
    """

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write ``config.yaml``; an older file with other settings is kept under a number."""
        assert isinstance(pl_module, MetaLearner)
        if stage != "fit" and (stage != "test" or pl_module.has_trained_parameters()):
            return
        text = reusable(self.parser, self.config)
        path = Path(trainer.default_root_dir) / "config.yaml"
        if path.exists() and path.read_text(encoding="utf-8") != text:
            keep_old(path)
        write_text(path, text)


class MetalitCLI(OpenCLI):
    """Lightning's CLI with the four changes that the module's docstring lists."""

    _claim: TextIO | None = None  # the open file that reserves the run folder

    def __init__(self, args: Sequence[str] | None = None) -> None:
        words = list(sys.argv[1:] if args is None else args)
        self._first_word = words[0] if words else ""
        # RuntimeError is what torch raises when a collective fails because another rank is gone.
        reported: tuple[type[Exception], ...] = (*mistakes(), RuntimeError)
        self.help_of = next((word.partition("=")[2] for word in words if word.startswith("--help=")), None)
        try:
            super().__init__(
                MetaLearner,
                EpisodicDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                seed_everything_default=0,
                trainer_defaults=TRAINER_DEFAULTS,
                # Lightning's own callback would write the file into the folder of the first logger, and refuse to
                # replace it.
                save_config_callback=SaveRunConfig,
                save_config_kwargs={"save_to_log_dir": False},
                # MetaLearner configures its optimiser itself, from the model's own options.
                auto_configure_optimizers=False,
                args=["--help" if word.startswith("--help=") else word for word in words],
            )
        except reported as error:
            self._report(error)
        finally:
            # The run folder is free again once the file is closed, even if the process lives on.
            if self._claim is not None:
                self._claim.close()

    def _report(self, error: Exception) -> NoReturn:
        """Report a mistake of the user in one line and end the program; raise any other error again."""
        if DEBUG_VARIABLE in os.environ:
            raise error
        if is_lost_rank(error):  # not the cause: the rank that failed reports that itself
            end_with_other_rank(getattr(self, "trainer", None))
        if not isinstance(error, mistakes()):
            raise error
        # jsonargparse wraps what a constructor raises in errors of its own. What counts is the constructor's own
        # exception: if that is a bug, its traceback must show.
        cause = innermost(error)
        if not isinstance(cause, mistakes()):
            raise cause from None
        config = getattr(self, "config", {})
        message = explain_error(cause, config.get(str(config.get("subcommand"))), self.parser)
        # Messages of these are complete. Those of other libraries may make sense with a traceback only.
        is_plain = isinstance(cause, UserError | OSError)
        fail(message if is_plain else f"{message} ({DEBUG_VARIABLE}=1 shows where)")

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """Return Lightning's commands and the arguments they leave out; only the given one if it is the first word."""
        commands = OpenCLI.subcommands()
        # Collecting the options of all four commands takes as long as parsing those of one.
        given = self._first_word
        return {given: commands[given]} if given in commands else commands

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        """Return a parser that reports mistakes in one sentence, with the option ``--config``."""
        parser = ArgumentParser(**{"dump_header": ["metalit run, all settings resolved"], **texts(), **kwargs})
        parser.help_of = self.help_of
        add_config(parser)
        return parser

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:
        """Add ``--version`` to the options before the command."""
        super().setup_parser(*args, **kwargs)
        add_version(self.parser)

    def add_default_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--seed_everything``, which leaves the seed of the episodes to ``data.seed``."""
        parser.add_argument(
            "--seed_everything",
            type=bool | int,
            default=self.seed_everything_default,
            help="Seed of the initial parameters and of all other random numbers but the episodes', which have "
            "data.seed; true chooses one, false leaves all as it is.",
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add ``--run_dir``, ``--threads``, the checkpoint callback, and the links from ``data.ways`` to the model."""
        parser.add_argument(
            "--run_dir",
            type=str | None,
            default=None,
            help="Folder of this run: config, checkpoints, metrics, results, figures. If not given: the folder of "
            "--ckpt_path, else a new one, runs/<data>-<model>/<time>.",
        )
        parser.add_argument(
            "--threads",
            type=PositiveInt | None,
            default=None,
            help="CPU threads of torch; small networks are fastest with 1. If not given: torch's own choice.",
        )
        parser.add_class_arguments(RunCheckpoint, "checkpoint")
        add_links(parser)

    def before_instantiate_classes(self) -> None:
        """Choose the run folder, and resolve ``--ckpt_path best`` and ``last`` to files in it."""
        config = self.config[self.subcommand]
        if config.trainer.sync_batchnorm:
            expected = "false: each task is normalised by its own statistics, so there is nothing to synchronise"
            raise SettingError("trainer.sync_batchnorm", True, expected)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        run_dir = self._run_dir(config)
        if not config.trainer.fast_dev_run:
            # Before model and data are built, and long before the first checkpoint is written.
            check_writable(run_dir)
        # Both names mean the same folder: Lightning's loggers and checkpoints go to default_root_dir.
        config.run_dir = config.trainer.default_root_dir = str(run_dir)
        self._is_new = self.subcommand == "fit" and config.ckpt_path is None  # not resumed: W&B starts a new run
        config.ckpt_path = resolve_checkpoint(config.ckpt_path, run_dir, fitting=self.subcommand == "fit")
        if config.weights_only is None:
            config.weights_only = True  # no code in a checkpoint is executed
        # here, and not only when the classes are made from a copy: config.yaml tells the lengths
        parser = self.parser_of(self.subcommand)
        assert isinstance(parser, ArgumentParser)
        parser.fill_sizes(config)

    def instantiate_trainer(self, **kwargs: Any) -> L.Trainer:
        """Return the trainer with metalit's callbacks and, for ``fit``, CSV and TensorBoard loggers by default."""
        settings = self.config[self.subcommand].trainer
        if self.subcommand == "fit" and not settings.fast_dev_run:
            # Two trainings in one folder would mix the rows of metrics.csv and overwrite each other's checkpoints.
            self._claim = rank_zero_only(claim)(Path(settings.default_root_dir))
        # Only the callbacks that this command needs: each one costs a little time at every training step.
        given = as_list(self.made("trainer.callbacks"))
        kinds = {type(callback) for callback in given}  # the user's Figures, say, takes the place of ours
        own: list[Callback] = [make() for make in OWN_CALLBACKS[str(self.subcommand)] if make not in kinds]
        if not settings.barebones:
            if settings.logger is not False:
                kwargs["logger"] = self._loggers()
            if settings.enable_progress_bar is not False:
                own.append(EpisodeProgressBar())
            if settings.enable_checkpointing is not False:
                own.append(self.made("checkpoint"))
        # GivenSettings records the settings of the user's callbacks before those can change them; metalit's other
        # callbacks come after the user's.
        first = [GivenSettings()] if self.subcommand == "fit" else []
        kwargs["callbacks"] = [*first, *given, *own]
        try:
            return super().instantiate_trainer(**kwargs)
        except (MisconfigurationException, ValueError, TypeError) as error:
            if isinstance(error, UserError):
                raise
            # Lightning raises TypeError for devices that it cannot interpret, a mistake of the user too.
            refused = MisconfigurationException(str(error))
            set_owner(refused, L.Trainer)
            raise refused from error

    def before_fit(self) -> None:
        """Refuse a checkpoint that does not belong to this model."""
        check_checkpoint(self.config[self.subcommand].ckpt_path, self.model)

    def before_validate(self) -> None:
        """Refuse a checkpoint that does not belong to this model, and print a notice if none is given."""
        self.before_fit()
        if self.config[self.subcommand].ckpt_path is None:
            rank_zero_info("No --ckpt_path: this is the model before any training.")

    before_test = before_predict = before_validate

    def after_fit(self) -> None:
        """Print the run folder, the best score, and the command that tests the best checkpoint."""
        folder = Path(self.trainer.default_root_dir)
        # A quick check (fast_dev_run) has written nothing that could be tested.
        if not self.trainer.is_global_zero or not (folder / "config.yaml").exists():
            return
        text = f"\nThe run is in {folder}"
        checkpoint = self.trainer.checkpoint_callback
        if isinstance(checkpoint, RunCheckpoint) and checkpoint.best_model_score is not None:
            options = shlex.join(["--config", str(folder / "config.yaml"), "--run_dir", str(folder)])
            text += (
                f", best {checkpoint.monitor} {float(checkpoint.best_model_score):.4g}\nTest the best checkpoint:\n"
                f"  {program_name()} test {options} --ckpt_path best"
            )
        Console().print(text, soft_wrap=True, highlight=False, markup=False)

    def _run_dir(self, config: Any) -> Path:
        """Return the run folder: the one given, else that of the checkpoint, else a new one."""
        if config.run_dir is not None or config.trainer.default_root_dir is not None:
            return Path(config.run_dir or config.trainer.default_root_dir)
        # The checkpoint of a run, whose folder the results of resuming or testing it belong to.
        if config.ckpt_path is not None and Path(config.ckpt_path).parent.name == "checkpoints":
            return Path(config.ckpt_path).parent.parent
        names = (str(part.class_path).rpartition(".")[2].lower() for part in (config.data, config.model))
        return common_new_folder(Path("runs") / "-".join(names))

    def _loggers(self) -> list[Logger]:
        """Return the requested loggers; ``fit`` always adds metrics.csv, the source of learning_curves.png."""
        run_dir = Path(self.config[self.subcommand].run_dir)
        given = self.made("trainer.logger")
        by_default = given in (None, True)
        loggers: list[Logger] = [] if by_default else as_list(given)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.use_folder(run_dir, is_new=self._is_new)
        if self.subcommand != "fit":
            return loggers if self.subcommand == "test" else []  # validate and predict log nothing of use
        if by_default:
            loggers = [TensorBoardLogger(str(run_dir), name="", version="tensorboard")]
        # The user's own CSVLogger may write metrics.csv into the run folder already.
        csv_files = [Path(str(logger.log_dir)).resolve() for logger in loggers if isinstance(logger, CSVLogger)]
        if run_dir.resolve() not in csv_files:
            # CSVLogger deletes the metrics.csv that it finds, so keep that under a number.
            rank_zero_only(keep_old)(run_dir / "metrics.csv")
            loggers.insert(0, CSVLogger(str(run_dir), name="", version=""))
        return loggers
