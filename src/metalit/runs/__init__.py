"""Runs: the run folder with its checkpoints and logs, and how a run stops and resumes.

The rule of this room: however a process ends, the files on disk are complete and the run resumes from them.

Files of a run folder: ``config.yaml`` (``cli``), ``checkpoints/`` and ``metrics.csv`` (here and Lightning's loggers),
``results.json``, ``episodes.csv``, ``confusion.csv``, ``predictions.csv`` and figures (``evaluation``), and of a job
``job.json``, ``job.sh``, ``job.yaml``, ``job.exit``, ``code/`` and ``logs/`` (``commands`` and ``cluster``).
"""

from metalit.runs.checkpoint_files import check_checkpoint, resolve_checkpoint
from metalit.runs.checkpoints import RunCheckpoint
from metalit.runs.epoch_end import EpochEnd
from metalit.runs.folder import check_writable, claim, common_new_folder, new_folder, writable_run_folder
from metalit.runs.owed_validation import OwedValidation
from metalit.runs.preemption import Preemption
from metalit.runs.random_states import RandomStates
from metalit.runs.settings import GivenSettings
from metalit.runs.wandb_logger import WandbLogger
from metalit.runs.watchdog import end_with_parent

__all__ = [
    "EpochEnd",
    "GivenSettings",
    "OwedValidation",
    "Preemption",
    "RandomStates",
    "RunCheckpoint",
    "WandbLogger",
    "check_checkpoint",
    "check_writable",
    "claim",
    "common_new_folder",
    "end_with_parent",
    "new_folder",
    "resolve_checkpoint",
    "writable_run_folder",
]
