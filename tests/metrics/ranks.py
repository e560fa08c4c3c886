"""Two processes that evaluate together. Run as ``ranks.py FOLDER``; the test reads what they save.

A program of its own, since forking is safe only before the first computation; starting two would import all twice.
"""

import sys
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import torch.multiprocessing

from metalit.evaluation import PredictionWriter
from metalit.metrics import EpisodeValues, Evaluation

WORLD_SIZE = 2
EPISODES = 13
# which episodes each rank sees, batch by batch
CASES = {
    "uneven": (([0, 1, 2], [6, 7, 8], [12]), ([3, 4, 5], [9, 10, 11])),
    "second rank idle": (([4, 2], [0]), ()),
    "first rank idle": ((), ([4, 2], [0])),
    "both idle": ((), ()),
    "repeated": (([0, 1], [2]), ([1, 2],)),
}


def true_values(index: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return values ``[B, 3]`` that tell episodes, stages and names apart."""
    table = torch.rand(EPISODES, 3, 2, generator=torch.Generator().manual_seed(0))[index]
    return {"loss": table[..., 0], "accuracy": table[..., 1]}


def evaluate(batches: tuple[list[int], ...]) -> tuple[Evaluation, Evaluation]:
    metric = EpisodeValues()
    for batch in batches:
        metric.update(torch.tensor(batch), true_values(torch.tensor(batch)))
    together = metric.compute()
    metric.reset()
    extra = torch.tensor([dist.get_rank()])
    metric.update(extra, {"loss": torch.ones(1, 1)})  # other names and stages, after a reset
    return together, metric.compute()


def work(rank: int, folder: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=WORLD_SIZE)
    torch.save({name: evaluate(parts[rank]) for name, parts in CASES.items()}, folder / f"rank{rank}.pt")
    trainer = SimpleNamespace(
        world_size=WORLD_SIZE, is_global_zero=rank == 0, fast_dev_run=False, default_root_dir=folder / "run"
    )
    writer = PredictionWriter()
    index = torch.tensor([rank, rank + WORLD_SIZE])
    outputs = {"index": index, "predictions": torch.eye(4)[index].unsqueeze(1), "targets": index.unsqueeze(1)}
    writer.on_predict_batch_end(trainer, None, outputs, None, 0)  # type: ignore[arg-type]
    writer.on_predict_end(trainer, None)  # type: ignore[arg-type]
    dist.destroy_process_group()


if __name__ == "__main__":
    torch.multiprocessing.start_processes(work, (Path(sys.argv[1]),), nprocs=WORLD_SIZE, start_method="fork")
