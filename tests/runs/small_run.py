"""A training of a second in Python, with all that makes it exact to resume."""

import lightning as L
import torch
from torch import nn

from metalit.algorithms import MAML
from metalit.data import Sinusoid
from metalit.runs import EpochEnd, GivenSettings, OwedValidation, RandomStates, RunCheckpoint
from runs.kill_and_resume import state

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}


class Steps(L.Callback):
    """Notes the hyper-parameters with which each step was made, by the step's number."""

    def __init__(self):
        self.groups = {}

    def on_train_batch_start(self, trainer, learner, batch, batch_idx):
        (group,) = trainer.optimizers[0].param_groups
        self.groups[trainer.global_step] = {name: value for name, value in group.items() if name != "params"}


def train(folder, learner=None, callbacks=(), **trainer):
    """Train in epochs of 2 steps to the end, or go on from ``last.ckpt``; return the trainer.

    Args:
        folder: of the run.
        learner: the learner's settings, and ``normed`` for a batch norm in its network.
        callbacks: what makes each of the callbacks.
        **trainer: settings of the trainer; three epochs if they do not say.
    """
    torch.manual_seed(0)
    learner = dict(learner or {})
    norm = nn.BatchNorm1d(8) if learner.pop("normed", False) else nn.Tanh()
    module = MAML(nn.Sequential(nn.Linear(1, 8), norm, nn.Dropout(0.2), nn.Linear(8, 1)), **learner)
    last = folder / "checkpoints" / "last.ckpt"
    made = L.Trainer(
        default_root_dir=folder, accelerator="cpu", inference_mode=False, log_every_n_steps=1,
        use_distributed_sampler=False, **QUIET, **({"max_epochs": 3} | trainer),
        callbacks=[
            GivenSettings(), *(make() for make in callbacks), RandomStates(), EpochEnd(), OwedValidation(),
            RunCheckpoint(every_n_steps=1),
        ],
    )  # fmt: skip
    data = Sinusoid(tasks_per_batch=2, episodes_per_epoch=4, val_episodes=2)
    made.fit(module, data, ckpt_path=last if last.exists() else None)
    return made


def end_of(folder, *args, **options):
    """Train, and return what decides how training would go on."""
    train(folder, *args, **options)
    return state(folder)
