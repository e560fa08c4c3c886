"""What it costs to take the meta-gradient inside vmap, which is right for every network, and not over it.

    python benchmarks/meta_gradient.py

A step is meta-loss and meta-gradient of second-order MAML with 2 inner steps in float32, for four networks. The two
passes take turns in one process, and a ratio compares the two times of one turn. Memory is what a step adds to the peak
of a process; each pass has a process of its own for that, for the peak of a process never falls (Linux alone). Then
follows which of the two each file in configs/ takes.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal, cast

import torch
import yaml
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from metalit import MAML, Engine, Episode, Labelled
from metalit.algorithms import MetaLearner
from metalit.engine.certified import uncertified
from metalit.networks import MLP, Classifier, Conv4
from metalit.objectives import QueryLoss

WAYS = 5
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
Pass = Literal["inside", "over"]
PASSES: tuple[Pass, Pass] = ("inside", "over")


@dataclass(frozen=True)
class Work:
    """How much there is to do."""

    tasks: int
    width: int
    clock: str
    threads: int


class Residual(nn.Module):
    """Two convolutions with batch norm, and a way around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels, track_running_stats=False),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels, track_running_stats=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Add what the convolutions make of the input."""
        return torch.relu(x + self.body(x))


class Rows(nn.Module):
    """A transformer that reads an image as a sequence of rows."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(28, width), nn.Linear(width, WAYS)
        layer = nn.TransformerEncoderLayer(width, 4, 2 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Classify the mean of the rows."""
        return self.head(self.encoder(self.embed(x[:, 0])).mean(dim=1))  # type: ignore[no-any-return]


def resnet(width: int) -> nn.Module:
    """Return a small residual network."""
    blocks = [Residual(width), nn.MaxPool2d(2), Residual(width), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(nn.Conv2d(1, width, 3, 2, 1), *blocks, nn.Linear(width, WAYS))


def images(each: int, tasks: int) -> Labelled:
    """Return random images of all classes."""
    return Labelled(torch.rand(tasks, WAYS * each, 1, 28, 28), torch.arange(WAYS).repeat(tasks, each))


def points(each: int, tasks: int) -> Labelled:
    """Return random points of a line."""
    return Labelled(*torch.randn(2, tasks, 5 * each, 1).unbind())


NETWORKS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int, int], Labelled]]] = {
    "MLP": (lambda width: MLP(hidden=(width, width)), points),
    "Conv4": (lambda width: Classifier(Conv4(width, downsample="stride"), WAYS), images),
    "ResNet": (resnet, images),
    "transformer": (Rows, images),
}


def steps(name: str, work: Work) -> dict[Pass, Callable[[], object]]:
    """Return what makes one training step by each pass."""
    torch.set_num_threads(work.threads)
    torch.manual_seed(0)
    make, data = NETWORKS[name]
    network, episode = (
        make(work.width),
        Episode(data(1, work.tasks), data(2, work.tasks), torch.arange(work.tasks)),
    )

    def step(how: Pass) -> object:
        engine = Engine(differentiate=how)
        learner = MAML(network, 0.01, inner_steps=2, engine=engine)
        trained, fixed = learner.meta()
        parameters = {key: value.detach() for key, value in trained.items()}
        task = partial(learner.task, ways=learner.ways_of(episode.support))
        return engine.meta_gradient(task, QueryLoss(), parameters, fixed, torch.arange(work.tasks), episode)

    return {how: partial(step, how) for how in PASSES}


def peak() -> float:
    """Return the highest memory that this process has had, in MiB."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 2**10


def memory(name: str, how: Pass, work: Work) -> float:
    """Return the MiB that a step adds to the peak of a fresh process."""
    command = [sys.executable, __file__, "--contender", name, how, "--work", json.dumps(asdict(work))]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def measured_memory(name: str, how: Pass, work: Work) -> float:
    """Return what ``memory`` asks a process for, which has made a step of one task before."""
    steps(name, Work(1, work.width, work.clock, work.threads))[how]()
    before = peak()
    steps(name, work)[how]()
    return max(peak() - before, 0.1)


def times(name: str, work: Work, rounds: int) -> list[tuple[float, float]]:
    """Return the seconds of a step inside and over, turn by turn; the first turn is not counted."""
    now, found = CLOCKS[work.clock], []
    made = steps(name, work)
    for _ in range(rounds + 1):
        turn = []
        for how in PASSES:
            start = now()
            made[how]()
            turn.append(now() - start)
        found.append((turn[0], turn[1]))
    return found[1:]


def spread(values: list[float], digits: int) -> str:
    """Return "median (min to max)"."""
    middle, low, high = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return f"{middle:>8} ({low} to {high})"


def passes_of_configs(folder: Path) -> dict[str, list[str]]:
    """Return the configs whose learner takes each pass; an engine can settle without any data."""
    found: dict[str, list[str]] = {"over": [], "inside": []}
    for path in sorted(folder.glob("*/*.yaml")):
        settings = yaml.safe_load(path.read_text())
        if "class_path" not in settings.get("model", {}):
            continue  # lies over another
        learner = learner_of(path)
        found["over" if uncertified(learner) is None else "inside"].append(f"{path.parent.name}/{path.stem}")
    return found


def learner_of(path: Path) -> nn.Module:
    """Return the learner that a config describes."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(MetaLearner, "model")
    model = {"model": yaml.safe_load(path.read_text())["model"]}
    return cast(nn.Module, parser.instantiate(parser.parse_object(model)).model)


def main(args: list[str] | None = None, say: Callable[[str], None] = print) -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="turns of each pass")
    parser.add_argument("--tasks", type=int, default=8, help="tasks in a meta-batch")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="time that passes, or processor time")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch")
    parser.add_argument("--quick", action="store_true", help="one round of little work: does it run?")
    parser.add_argument("--configs", type=Path, help="a folder of configs: say which pass each takes")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args(args)
    if options.contender:
        name, how = options.contender
        say(str(measured_memory(name, how, Work(**json.loads(options.work)))))
        return
    if options.configs:
        for how, names in passes_of_configs(options.configs).items():
            say(f"{how}: {', '.join(names) or 'none'}")
        return
    rounds, tasks, width = (1, 2, 8) if options.quick else (options.rounds, options.tasks, 40)
    work = Work(tasks, width, options.clock, options.threads)
    say(f"{tasks} tasks, width {width}, {options.threads} thread(s), {rounds} rounds, {options.clock} time")
    for name in ["MLP"] if options.quick else NETWORKS:
        pairs = times(name, work, rounds)
        used = {how: [memory(name, how, work) for _ in range(rounds)] for how in PASSES}
        for i, how in enumerate(PASSES):
            seconds = [pair[i] for pair in pairs]
            say(f"{name + ', ' + how:24}{spread(used[how], 0)} MiB  {spread(seconds, 4)} s")
        ratios = [one / other for one, other in zip(used["inside"], used["over"], strict=True)]
        say(f"{'memory: ' + name + ', inside / over':48}{spread(ratios, 2)}")
        say(f"{'time: ' + name + ', inside / over':48}{spread([one / other for one, other in pairs], 2)}")


if __name__ == "__main__":
    main()
