"""Stopping when told to, with nothing lost: before the time limit, for a more urgent job, or by hand."""

import os
import signal
import subprocess
from types import FrameType
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.trainer.connectors.signal_connector import _SignalConnector
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info

from metalit.private import accumulates
from metalit.ranks import gather_objects, world_size
from metalit.runs.checkpoints import RunCheckpoint, is_quick_check

STOPPED_EARLY = 75  # exit code: a temporary failure, try again
REQUEUE_VARIABLE = "METALIT_REQUEUE"  # 1 where a job that stops before its time limit is to be queued again
# SIGTERM is sent by schedulers that have queued the job already, by those that end it for good, and by hand; SIGUSR2 is
# for launchers that queue it themselves, such as submitit. If ranks were told by different ones, the last here counts
SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGTERM", "SIGUSR2", "SIGUSR1") if hasattr(signal, name)
)  # Windows has the first alone
QUEUED_BY_US = SIGNALS[-1]  # what SLURM sends before the time limit


class Preempted(SystemExit):
    """Ends a process that was told to stop, and has."""


class StopSignals(_SignalConnector):
    """Takes the place of Lightning's own answers to signals, and only notes them.

    Lightning answers at once, in the midst of whatever goes on: with several ranks it saves and waits on one while
    another waits for it in a step, for ever.
    """

    def __init__(self, trainer: L.Trainer) -> None:
        super().__init__(trainer)
        self.noted: signal.Signals | None = None

    def register_signal_handlers(self) -> None:
        """Listen, until ``teardown`` puts back what was there before."""
        self._pid = os.getpid()
        self._original_handlers = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            self._register_signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # the first counts: others follow it while all is being saved; and a process forked from this one is not told
        if os.getpid() == self._pid and self.noted is None:
            self.noted = signal.Signals(number)


class Preemption(L.Callback):
    """Stops at SIGUSR1, SIGUSR2 and SIGTERM: all ranks agree after a batch, save ``last.ckpt``, and end with code 75.

    A resumed training ends as if it had not been interrupted. In a validation, training has been saved already, and
    the resumed one begins with that validation; a test begins anew.

    If ``METALIT_REQUEUE`` is 1 and the process belongs to a SLURM job, SIGUSR1 has the first rank queue the job again,
    once all have saved.
    """

    def __init__(self) -> None:
        self._signals: StopSignals | None = None
        self._step = 0
        self._told: signal.Signals | None = None  # by which signal, once all ranks know
        self._batches = 0.0  # of an evaluation, that are still to come on every rank

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Take the place of Lightning's own answers, before it registers them."""
        trainer._signal_connector = self._signals = StopSignals(trainer)
        self._told = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note where training begins."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if any rank was told to stop, but not amidst batches whose gradients are accumulated."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        if self._all_were_told(trainer) and (checkpoint := checkpoint_of(trainer)) is not None:
            checkpoint.save_now(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Stop, now that what was logged of the saved step has reached the loggers."""
        self._stop_if_told(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, if that step was the epoch's last."""
        self._stop_if_told(trainer)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop, if a validation follows that step."""
        self._stop_if_told(trainer)
        batches = trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches
        # in the midst of accumulated gradients there is nothing to go on from: the next step is not far
        is_between = trainer.state.fn == TrainerFn.FITTING and accumulates(trainer)
        self._begin_evaluation([] if is_between and not trainer.sanity_checking else batches)

    def on_test_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the batches."""
        self._begin_evaluation(trainer.num_test_batches)

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count the batches."""
        self._begin_evaluation(trainer.num_predict_batches)

    def on_validation_batch_end(self, trainer: L.Trainer, *args: Any, **options: Any) -> None:
        """Stop if any rank was told to."""
        self._after_evaluation_batch(trainer)

    on_test_batch_end = on_predict_batch_end = on_validation_batch_end

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say what was saved and how it goes on, and queue the job again."""
        if not isinstance(exception, Preempted) or not trainer.is_global_zero:
            return
        for logger in trainer.loggers:
            logger.save()
        assert self._told is not None
        what_follows = self._what_follows(trainer)
        rank_zero_info(f"Stopped by {self._told.name}: {saved(trainer)}; {what_follows}")

    def _all_were_told(self, trainer: L.Trainer) -> bool:
        assert self._signals is not None
        noted = self._signals.noted
        place = 0 if noted is None else 1 + SIGNALS.index(noted)
        place = largest(place, trainer.strategy.root_device)
        self._told = SIGNALS[place - 1] if place else None
        return self._told is not None

    def _stop_if_told(self, trainer: L.Trainer) -> None:
        if self._told is not None:
            # a process that was started by the first must not fail: the first would be killed before it is done
            raise Preempted(STOPPED_EARLY if trainer.is_global_zero else 0)

    def _begin_evaluation(self, batches: list[int | float]) -> None:
        # what one rank has more of than another it evaluates alone, when the other has no ear
        self._batches = min(gather_objects(sum(batches)))

    def _after_evaluation_batch(self, trainer: L.Trainer) -> None:
        self._batches -= 1
        if self._batches >= 0 and self._all_were_told(trainer):
            self._stop_if_told(trainer)

    def _what_follows(self, trainer: L.Trainer) -> str:
        fits, job = trainer.state.fn == TrainerFn.FITTING, slurm_job()
        goes_on = checkpoint_of(trainer) is not None
        is_wanted = self._told == QUEUED_BY_US and os.environ.get(REQUEUE_VARIABLE) == "1"
        # a training that saves nothing would be queued again for ever
        if job is not None and is_wanted and (goes_on or not fits):
            return requeue(job)
        if fits and goes_on:
            return f"to go on, give the same command with --run_dir {trainer.default_root_dir} --ckpt_path last"
        return "the same command begins anew"


def largest(value: int, device: torch.device) -> int:
    """Return the largest of the values that all ranks give, by one message: this is asked after every step."""
    if world_size() == 1:
        return value
    everyone = torch.tensor(value, device=device)
    dist.all_reduce(everyone, op=dist.ReduceOp.MAX)
    return int(everyone)


def checkpoint_of(trainer: L.Trainer) -> RunCheckpoint | None:
    """Return what saves a training's states, if anything does."""
    if trainer.state.fn != TrainerFn.FITTING or is_quick_check(trainer):
        return None
    return next((c for c in trainer.checkpoint_callbacks if isinstance(c, RunCheckpoint)), None)


def saved(trainer: L.Trainer) -> str:
    """Return for the reader what there is to go on from."""
    checkpoint = checkpoint_of(trainer)
    if checkpoint is None or trainer.global_step == 0:
        return "nothing is saved"
    return f"step {trainer.global_step} is saved in {checkpoint.path('last')}"


def slurm_job() -> str | None:
    """Return the SLURM job, or the task of a job array, that this process belongs to."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue(job: str) -> str:
    """Have SLURM queue a running job again, and return for the reader how that went."""
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    except OSError as error:
        problem = str(error)
    else:
        if done.returncode == 0:
            return f"job {job} is queued again"
        problem = done.stderr.strip()
    return f"job {job} could not be queued again ({problem}): submit it again"
