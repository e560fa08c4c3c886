"""What one process and two do alike, for comparison. Run as ``two_ranks.py FOLDER``: two processes do every job.

A program of its own, since forking is safe only before the first computation; starting two would import all twice.
"""

import faulthandler
import os
import socket
import sys
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.multiprocessing
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from torch.utils.data import DataLoader

from cases import CASES, DOMAINS, SMALL
from metalit import Engine, Episode, Outcome
from metalit.algorithms import MAML, MetaLearner
from metalit.data import EpisodicDataModule, RankShare
from metalit.data.stream import Split
from metalit.episode import TaskBatch
from metalit.evaluation import ResultsWriter
from metalit.networks import MLP
from metalit.objectives import Objective, QueryLoss
from padding import SizesByNumber
from policies import POLICIES

WORLD_SIZE = 2
PATIENCE = 200  # seconds for all jobs
TASKS, STEPS = 4, 3  # over all ranks together; and steps of training
BROKEN = 6  # the second step's third episode, so one of the second rank's


class MeanAndTheil(Objective):
    """The mean loss and Theil's index of the losses, which no mean over ranks of their own indices can give."""

    over_all_tasks = True

    def __call__(self, outcome: Outcome) -> torch.Tensor:
        share = outcome.loss / outcome.loss.mean()
        return outcome.loss.mean() + (share * share.log()).mean()


class Forgetful(nn.Module):
    """Has a layer that it does not use, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.unused, self.frozen = MLP(), nn.Linear(2, 2), nn.Linear(1, 1)
        self.frozen.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.frozen(self.used(x))


class Witness(L.Callback):
    """Notes which episodes this rank is trained on, and the weights after each step."""

    def __init__(self) -> None:
        self.index: list[int] = []
        self.sums: list[float] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.logged: list[dict[str, float]] = []

    def on_train_batch_start(
        self, trainer: L.Trainer, learner: L.LightningModule, batch: Episode, batch_idx: int
    ) -> None:
        self.index += batch.index.tolist()
        what = batch.parameters if isinstance(batch, TaskBatch) else batch.support.x
        self.sums += what.flatten(1).sum(dim=1).tolist()

    def on_train_batch_end(self, trainer: L.Trainer, learner: L.LightningModule, *args: Any) -> None:
        self.weights = copies(learner)
        self.logged.append({name: float(value) for name, value in trainer.callback_metrics.items()})


class Batches(torch.utils.data.Dataset[Episode]):
    """Episodes of a user's own: so many of a stream, in batches of two, the last of which may be smaller."""

    def __init__(self, split: Split, episodes: int) -> None:
        data = DOMAINS["sinusoid"].data()
        starts = range(0, episodes, 2)
        self.batches = [data.episodes(split, first, min(2, episodes - first)) for first in starts]

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> Episode:
        return self.batches[number]


class Breaks(L.Callback):
    """Makes the targets of one episode such that its loss is not finite."""

    def __init__(self, target: float) -> None:
        self.target = target

    def on_train_batch_start(
        self, trainer: L.Trainer, learner: L.LightningModule, batch: Episode, batch_idx: int
    ) -> None:
        batch.query.y[batch.index == BROKEN] = self.target


def copies(learner: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in learner.state_dict().items()}


def quiet_trainer(folder: Path, ranks: int, **settings: Any) -> L.Trainer:
    """Return a trainer that leaves and says nothing, on any number of ranks."""
    parallel = {"devices": ranks, "strategy": "ddp"} if ranks > 1 else {}
    options = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu",
               "log_every_n_steps": 1, "enable_checkpointing": False, "inference_mode": False,
               "use_distributed_sampler": False, "default_root_dir": folder}  # fmt: skip
    return L.Trainer(**(options | parallel | settings))


def fit(
    learner: MetaLearner,
    domain: str | Callable[..., EpisodicDataModule],
    folder: Path,
    ranks: int,
    *callbacks: L.Callback,
    data_settings: dict[str, Any] | None = None,
    make_data: Callable[..., EpisodicDataModule] | None = None,
    **settings: Any,
) -> dict[str, Any]:
    """Train on the same tasks with any number of ranks; then test, on an uneven number of batches."""
    sizes = {
        "tasks_per_batch": TASKS // ranks,
        "eval_tasks_per_batch": 2,
        "episodes_per_epoch": TASKS * STEPS,
    }
    make = make_data or (DOMAINS[domain].data if isinstance(domain, str) else domain)
    data = make(**(sizes | (data_settings or {})))
    witness = Witness()
    noting = [witness, *callbacks, ResultsWriter(show_table=False)]
    trainer = quiet_trainer(folder, ranks, callbacks=noting, **({"max_epochs": 1} | settings))
    error = ""
    try:
        trainer.fit(learner, data)
    except FloatingPointError as caught:
        error = str(caught)
    else:
        trainer.test(learner, data, verbose=False)
    after = {"state": copies(learner), "before": witness.weights, "error": error}
    return {"index": witness.index, "sums": witness.sums, "logged": witness.logged, **after}


def row(name: str, domain: str, folder: Path, ranks: int) -> dict[str, Any]:
    """Train and test an algorithm of the table, with dropout."""
    learner = CASES[name].make(domain, dropout=0.2, optimizer=partial(torch.optim.SGD, lr=0.1, momentum=0.9))
    return fit(learner, domain, folder, ranks, data_settings=CASES[name].data_settings)


def policy(name: str, folder: Path, ranks: int, **settings: Any) -> dict[str, Any]:
    """Train and test a policy learner, damped: else conjugate gradients amplify rounding errors."""
    case = POLICIES[name]
    return fit(case.make(damping=1.0, **settings), case.data, folder, ranks)


def unequal(engines: tuple[Engine, Engine], folder: Path, ranks: int) -> dict[str, Any]:
    """Train with an objective that compares the tasks of all ranks."""
    sgd = partial(torch.optim.SGD, lr=0.01)
    learner = MAML(MLP(), objective=MeanAndTheil(), engine=engines[ranks - 1], optimizer=sgd)
    return fit(learner, "sinusoid", folder, ranks)


def sizes(objective: Objective, folder: Path, ranks: int) -> dict[str, Any]:
    """Train on tasks of unequal size, the longest of which differ between the ranks."""
    learner = MAML(MLP(), objective=objective, optimizer=partial(torch.optim.SGD, lr=0.01))
    settings = SMALL | {"shots": 5, "queries": 10}
    return fit(learner, "sinusoid", folder, ranks, make_data=lambda **own: SizesByNumber(**(settings | own)))


def incomplete(folder: Path, ranks: int) -> dict[str, Any]:
    """Train a network with parameters that get no gradient."""
    return fit(MAML(Forgetful()), "sinusoid", folder, ranks)


def accumulated(folder: Path, ranks: int) -> dict[str, Any]:
    """Train with two batches a step, with running statistics."""
    learner = CASES["PrototypicalNetwork"].make("glyphs", optimizer=partial(torch.optim.SGD, lr=0.1))
    return fit(learner, "glyphs", folder, ranks, accumulate_grad_batches=2)


def stopping(folder: Path, ranks: int) -> dict[str, Any]:
    """Stop when the loss of training has not become smaller in an epoch of one step."""
    early = EarlyStopping("train/loss", patience=2, check_on_train_epoch_end=True)
    sizes = {"episodes_per_epoch": TASKS}
    return fit(MAML(MLP()), "sinusoid", folder, ranks, early, data_settings=sizes, max_epochs=30)


def broken(target: float, folder: Path, ranks: int, **settings: Any) -> dict[str, Any]:
    """Meet a loss that is not finite, on one rank."""
    return fit(MAML(MLP()), "sinusoid", folder, ranks, Breaks(target), **settings)


def broken_float16(folder: Path, ranks: int) -> dict[str, Any]:
    """Meet it where a gradient that is not finite would be skipped."""
    scaled = MixedPrecision("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu"))
    return broken(torch.nan, folder, ranks, plugins=[scaled])


def own_loader(divided: bool, folder: Path, ranks: int) -> dict[str, Any]:
    """Train and test on a user's own ``DataLoader``, divided by ``RankShare`` or left as it is."""

    def loader(split: Split, episodes: int, equal: bool) -> DataLoader[Episode]:
        batches = Batches(split, episodes)
        return DataLoader(batches, None, sampler=RankShare(batches, equal=equal) if divided else None)

    trainer = quiet_trainer(folder, ranks, max_epochs=1, limit_val_batches=0)
    learner, witness = MAML(MLP()), Witness()
    trainer.callbacks.append(witness)
    error = ""
    try:
        trainer.fit(learner, loader("train", 4, equal=True), loader("val", 4, equal=False))
    except ValueError as caught:
        error = str(caught)
    trainer = quiet_trainer(folder, ranks)
    (found,) = trainer.test(learner, loader("test", 7, equal=False), verbose=False)
    indices = learner.last_evaluation.indices.tolist()
    return {"error": error, "index": witness.index, "indices": indices, "loss": found["test/loss"]}


def padded_test(folder: Path, ranks: int) -> dict[str, Any]:
    """Test where Lightning's sampler divides a user's loader, and repeats a batch so that ranks have equally many."""
    torch.manual_seed(3)
    learner = MAML(MLP())
    trainer = quiet_trainer(folder, ranks, use_distributed_sampler=True)
    (found,) = trainer.test(learner, DataLoader(Batches("test", 5), None), verbose=False)
    return {"indices": learner.last_evaluation.indices.tolist(), "loss": found["test/loss"]}


PLAIN, CHUNKS, COMPILED = Engine(), Engine(chunk_size=1), Engine(compile=True, compile_backend="aot_eager")
ADAM = {"max_divergence": None, "optimizer": partial(torch.optim.Adam, lr=0.01)}
ROWS = [(name, list(case.learning)[-1]) for name, case in CASES.items()]  # the domain with the larger network
Job = Callable[[Path, int], dict[str, Any]]
JOBS: dict[str, Job] = {
    **{f"{name}-{domain}": partial(row, name, domain) for name, domain in ROWS},
    **{name: partial(policy, name) for name in POLICIES},
    "MAMLPolicyGradient by adam": partial(policy, "MAMLPolicyGradient", **ADAM),
    "MAMLPolicyGradient with exploration": partial(policy, "MAMLPolicyGradient", exploration=0.5),
    "unequal": partial(unequal, (PLAIN, PLAIN)),
    "unequal-chunked": partial(unequal, (PLAIN, CHUNKS)),
    "unequal-compiled": partial(unequal, (PLAIN, COMPILED)),
    "sizes": partial(sizes, MeanAndTheil()),
    "sizes-mean": partial(sizes, QueryLoss()),
    "incomplete": incomplete,
    "accumulated": accumulated,
    "stopping": stopping,
    "broken": partial(broken, torch.nan),
    "broken-by-overflow": partial(broken, 1e200),  # the squared error is infinite, its gradient is not
    "broken-float16": broken_float16,
    "own-loader": partial(own_loader, True),
    "own-loader-undivided": partial(own_loader, False),
    "own-loader-padded": padded_test,
}


def do(name: str, folder: Path, rank: int = 0, ranks: int = 1) -> dict[str, Any]:
    """Do a job; what a rank draws by itself must not matter."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32 if name.endswith("float16") else torch.float64)
    torch.manual_seed(3 + rank)
    try:
        return JOBS[name](folder / name, ranks)
    finally:
        torch.set_default_dtype(usual)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def work(rank: int, folder: Path, port: int, names: list[str]) -> None:
    faulthandler.dump_traceback_later(PATIENCE, exit=True)  # where ranks wait for each other forever
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    os.environ |= {  # as torchrun would
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(WORLD_SIZE), "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(WORLD_SIZE), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }  # fmt: skip
    found = {name: do(name, folder, rank, WORLD_SIZE) for name in names}
    torch.save(found, folder / f"rank{rank}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    arguments = (Path(sys.argv[1]), free_port(), sys.argv[2:] or list(JOBS))
    torch.multiprocessing.start_processes(work, arguments, nprocs=WORLD_SIZE, start_method="fork")
