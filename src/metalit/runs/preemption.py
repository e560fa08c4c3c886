"""Stopping on a signal without losing work: before the time limit, for a more urgent job, or by hand."""

import os
import signal
import subprocess
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from metalit.exit_codes import STOPPED_EARLY
from metalit.private import HookedSignals, accumulates, set_signals
from metalit.ranks import gather_objects, world_size
from metalit.runs.checkpoints import RunCheckpoint, is_quick_check, is_resumable

REQUEUE_VARIABLE = "METALIT_REQUEUE"  # 1 if a job that stops before its time limit must requeue itself
# SIGTERM comes from schedulers that have requeued the job already, from those that end it for good, and from users;
# SIGUSR2 from launchers that requeue the job themselves, such as submitit. If ranks received different signals, the
# last one in this list wins
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR2", "SIGUSR1") if hasattr(signal, name))
QUEUED_BY_US = SIGNALS[-1]  # SIGUSR1, which SLURM sends before the time limit; Windows has neither


class Preempted(SystemExit):
    """Exit of a process that has stopped training or evaluation because of a signal."""


def ignore_late_signals() -> None:
    """Ignore SIGUSR1 and SIGUSR2 from now on: one that comes while a finished run's process ends must not fail its job.

    The time limit of a job may be near when its training ends, and a process takes seconds to end.
    """
    for number in SIGNALS[1:]:
        signal.signal(number, signal.SIG_IGN)


class StopSignals(HookedSignals):
    """Replaces Lightning's signal handlers with ones that only record the signal.

    Lightning acts inside the handler, wherever the process is at that moment. With several ranks this deadlocks: one
    rank saves and waits for the others, while another waits for it within a training step.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer)
        self.noted: signal.Signals | None = None

    def register_signal_handlers(self) -> None:
        """Install the handlers; ``teardown`` restores the previous ones."""
        self._pid = os.getpid()
        self.replace_handlers(SIGNALS, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Only the first signal counts; more may follow while the run is being saved. Forked processes, such as loader
        # workers, inherit the handler and must not act on it
        if os.getpid() == self._pid and self.noted is None:
            self.noted = signal.Signals(number)


class Preemption(L.Callback):
    """Stops on SIGUSR1, SIGUSR2 and SIGTERM: all ranks agree after a batch, save ``last.ckpt``, and exit with code 75.

    A resumed training ends as if it had not been interrupted. During a validation, the training state has been saved
    already, and the resumed training begins with that validation. A test starts from its beginning.

    If ``METALIT_REQUEUE`` is 1 and the process belongs to a SLURM job, the first rank requeues the job on SIGUSR1,
    after all ranks have saved.
    """

    def __init__(self) -> None:
        self._signals: StopSignals | None = None
        self._agreed: signal.Signals | None = None  # the signal that all ranks have agreed on
        self._batches = 0.0  # evaluation batches that are still to come on every rank

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Replace Lightning's signal connector before it installs its handlers."""
        self._signals = StopSignals(trainer)
        set_signals(trainer, self._signals)
        self._agreed = None

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Save if any rank has received a signal, once an optimiser step is complete."""
        assert self._signals is not None
        is_quiet = self._signals.noted is None and world_size() == 1  # at every step, so it is asked first
        if is_quiet or not is_resumable(trainer):
            return
        self._agree(trainer)
        checkpoint = checkpoint_of(trainer)
        if self._agreed is not None and checkpoint is not None:
            checkpoint.save_now(trainer)

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop before the next batch: by now the metrics of the saved step have reached the loggers."""
        self._stop_if_agreed(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop if the saved step was the last of the epoch."""
        self._stop_if_agreed(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop if a validation follows the saved step; otherwise count the validation batches."""
        self._stop_if_agreed(trainer)
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        # while gradients accumulate there is no state to resume from; wait for the next step, which is not far
        is_between = trainer.state.fn == TrainerFn.FITTING and accumulates(trainer)
        self._begin_evaluation([] if is_between and not trainer.sanity_checking else batches)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the test batches."""
        self._begin_evaluation(trainer.num_test_batches)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the prediction batches."""
        self._begin_evaluation(trainer.num_predict_batches)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop if any rank has received a signal."""
        self._batches -= 1
        if self._batches >= 0:
            self._agree(trainer)
            self._stop_if_agreed(trainer)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Requeue the job if requested, and print what was saved and how to resume."""
        if not isinstance(exception, Preempted) or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        assert self._agreed is not None
        checkpoint, job = checkpoint_of(trainer), slurm_job()
        saved = "nothing is saved"
        if checkpoint is not None and trainer.global_step > 0:
            saved = f"step {trainer.global_step} is saved in {checkpoint.path('last')}"
        # without checkpoints every attempt to train starts from scratch, so the job would be requeued for ever
        goes_on = checkpoint is not None or trainer.state.fn != TrainerFn.FITTING
        is_wanted = self._agreed == QUEUED_BY_US and os.environ.get(REQUEUE_VARIABLE) == "1"
        if job is not None and is_wanted and goes_on:
            next_step = requeue(job)
        elif checkpoint is not None:
            next_step = f"to go on, give the same command with --run_dir {trainer.default_root_dir} --ckpt_path last"
        else:
            next_step = "the same command starts from the beginning"
        rank_zero_info(f"Stopped by {self._agreed.name}: {saved}; {next_step}")

    def _agree(self, trainer: L.Trainer) -> None:
        assert self._signals is not None
        noted = self._signals.noted
        # the ranks' signals as one number, whose maximum all ranks learn; 0 is no signal
        place = 0 if noted is None else 1 + SIGNALS.index(noted)
        if world_size() > 1:
            # a single all_reduce rather than gather_objects, because this runs after every step
            largest = torch.tensor(place, device=trainer.strategy.root_device)
            dist.all_reduce(largest, op=dist.ReduceOp.MAX)
            place = int(largest)
        self._agreed = SIGNALS[place - 1] if place else None

    def _stop_if_agreed(self, trainer: L.Trainer) -> None:
        if self._agreed is not None:
            # if a rank that rank zero started exited with an error, rank zero would be killed before it has finished
            raise Preempted(STOPPED_EARLY if trainer.is_global_zero else 0)

    def _begin_evaluation(self, batches: list[int | float]) -> None:
        # ranks may have different numbers of batches; in the surplus ones the other ranks no longer answer
        self._batches = min(gather_objects(sum(batches)))


def checkpoint_of(trainer: L.Trainer) -> RunCheckpoint | None:
    """Return the callback that saves this training's checkpoints; None if there is none."""
    if trainer.state.fn != TrainerFn.FITTING or is_quick_check(trainer):
        return None
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)), None)


def slurm_job() -> str | None:
    """Return the id of the SLURM job or array task that this process belongs to; None outside SLURM."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue(job: str) -> str:
    """Requeue a running SLURM job, and return a message that says whether it worked."""
    try:
        subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=True)
    except subprocess.CalledProcessError as error:
        problem = error.stderr.strip()
    except OSError as error:  # scontrol is not there, for instance inside a container
        problem = str(error)
    else:
        return f"job {job} is queued again"
    return f"job {job} could not be queued again ({problem}): submit it again"
