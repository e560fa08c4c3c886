"""Time of a meta-step of MAML on graphs: tasks together by ``vmap``, and one after the other.

    python benchmarks/graph_step.py

4 tasks of 16 support and 16 query molecules of 15 to 35 atoms, GIN and gated GCN of three layers, second order, all
parameters adapted. Both ways take turns in one process, so that the ratio does not depend on what else runs.
"""

import argparse
import time
from statistics import median
from typing import Literal

import torch
from torch import Tensor

from metalit import MAML, Engine, Episode, Labelled
from metalit.episode import Graphs
from metalit.networks import GIN, GatedGCN, LinearHead

TASKS, GRAPHS, ATOMS, FEATURES = 4, 16, (15, 36), 32
WAYS: tuple[Literal["vmap", "loop"], ...] = ("vmap", "loop")


def molecules(tasks: int, graphs: int) -> Graphs:
    """Return random trees ``[tasks, graphs]`` with both directions of each edge, padded to 40 atoms and 80 edges."""
    counts = torch.randint(*ATOMS, (tasks, graphs, 1))
    atoms = torch.arange(40)
    node_mask = atoms < counts
    before = (torch.rand(tasks, graphs, 40) * atoms).long()
    pairs = torch.stack([before, atoms.expand_as(before)], dim=-1)
    edges = torch.cat([pairs, pairs.flip(-1)], dim=-2)
    there = (atoms > 0) & node_mask
    edge_mask = torch.cat([there, there], dim=-1)
    nodes = torch.randn(tasks, graphs, 40, FEATURES)
    features = torch.zeros(tasks, graphs, 80, 0)
    return Graphs(nodes * node_mask[..., None], edges * edge_mask[..., None], features, node_mask, edge_mask)


def episode() -> Episode:
    """Return a meta-batch of regression tasks."""

    def part() -> Labelled:
        return Labelled(molecules(TASKS, GRAPHS), torch.randn(TASKS, GRAPHS, 1))

    return Episode(part(), part(), torch.arange(TASKS))


def step(learner: MAML, batch: Episode) -> Tensor:
    """Return the loss of a meta-step, after its backward pass."""
    learner.zero_grad()
    loss = learner.meta_loss(batch)
    loss.backward()
    return loss.detach()


def seconds(learner: MAML, batch: Episode) -> float:
    """Return the CPU time of a meta-step, which is the same however busy the machine is."""
    start = time.process_time()
    step(learner, batch)
    return time.process_time() - start


def measured(body: type[GIN | GatedGCN], inner_steps: int, rounds: int) -> list[dict[str, float]]:
    """Return the CPU time of a meta-step by each mapping, for each round."""
    torch.manual_seed(0)
    batch, network = episode(), LinearHead(body(FEATURES, 0, width=64, layers=3))
    ways = {name: MAML(network, inner_lr=0.01, inner_steps=inner_steps, engine=Engine(name)).train() for name in WAYS}
    for learner in ways.values():
        step(learner, batch)
    return [{name: seconds(learner, batch) for name, learner in ways.items()} for _ in range(rounds)]


def main() -> None:
    """Print the times, and the ratio of each round as median and range."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="times that each is measured")
    parser.add_argument("--quick", action="store_true", help="does it run? one round of one inner step")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for inner_steps in (1,) if given.quick else (1, 5):
        for body in (GIN, GatedGCN):
            rounds = measured(body, inner_steps, 1 if given.quick else given.rounds)
            times = {name: median(each[name] for each in rounds) * 1e3 for name in WAYS}
            ratios = sorted(each["loop"] / each["vmap"] for each in rounds)
            print(f"{body.__name__}, {inner_steps} inner: vmap {times['vmap']:.0f}, loop {times['loop']:.0f} ms CPU")
            print(f"loop / vmap: {median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


if __name__ == "__main__":
    main()
