"""Steps per second against learn2learn, compiled against eager, and peak memory, of tasks in Omniglot's shape."""

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from metalit import Engine, Episode
from metalit.algorithms import MAML, MetaLearner, PrototypicalNetwork
from metalit.data import Glyphs
from metalit.learn2learn_compat import import_learn2learn
from metalit.networks import Classifier, Conv4

from .agreement import refuse_uncompiled
from .plan import Check, Found, NotRunError
from .training import Place

Step = Callable[[], Tensor]
WAYS, RATE = 5, 0.01
ROUNDS, TURN = 7, 0.25  # turns of each contender, and the least seconds of a turn
SAME_LOSS = 1e-2  # relative; both sides' convolutions are in TF32


@dataclass(frozen=True)
class Size:
    """How much there is to do: Omniglot's with Conv4-64, or a little of it in a dry run."""

    tasks: int
    channels: int
    inner_steps: int

    @classmethod
    def on(cls, device: torch.device) -> "Size":
        """Return the size for a device."""
        return cls(32, 64, 5) if device.type == "cuda" else cls(4, 8, 5)

    def __str__(self) -> str:
        return f"{self.tasks} tasks, Conv4-{self.channels}"


def episode(size: Size, device: torch.device) -> Episode:
    """Return 5-way 1-shot tasks of 15 queries a class, 28x28 pixels; glyphs, for the shapes decide the speed."""
    data = Glyphs(classes=64, ways=WAYS, shots=1, queries=15)
    return tree_map(lambda leaf: leaf.to(device), data.episodes("train", 0, size.tasks))  # type: ignore[no-any-return]


def maml_network(size: Size) -> nn.Module:
    """Return Conv4 with a linear head, the same at each call."""
    torch.manual_seed(0)
    return Classifier(Conv4(size.channels), WAYS)


def embedding(size: Size) -> nn.Module:
    """Return Conv4, the same at each call; normalised by each task's own statistics, as learn2learn's is."""
    torch.manual_seed(0)
    return Conv4(size.channels, batch_norm="batch")


def training_step(learner: MetaLearner, place: Place, tasks: Episode) -> Step:
    """Return one whole training step of metalit, without Lightning's loop."""
    learner = learner.to(place.device).train()
    learner.trainer = L.Trainer(logger=False, log_every_n_steps=10**9, **place.trainer)
    optimizer = torch.optim.Adam(learner.parameters())

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = learner.training_step(tasks, 0)
        loss.backward()
        learner.on_before_optimizer_step(optimizer)
        optimizer.step()
        return loss.detach()

    return step


def metalit_maml(size: Size, place: Place, **settings: object) -> Step:
    """Return a step of MAML."""
    settings = {"inner_lr": RATE, "inner_steps": size.inner_steps, "engine": Engine()} | settings
    return training_step(MAML(maml_network(size), **settings), place, episode(size, place.device))  # type: ignore[arg-type]


def metalit_protonet(size: Size, place: Place) -> Step:
    """Return a step of prototypical networks."""
    return training_step(PrototypicalNetwork(embedding(size)), place, episode(size, place.device))


def peer_step(network: nn.Module, tasks: Episode, error: Callable[[int], Tensor]) -> Step:
    """Return a step of a loop over tasks as learn2learn's examples have it, without their wait for each loss."""
    optimizer, count = torch.optim.Adam(network.parameters()), len(tasks.query.y)

    def step() -> Tensor:
        optimizer.zero_grad()
        total = torch.zeros((), device=tasks.query.y.device)
        for b in range(count):
            loss = error(b) / count
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    return step


def learn2learn_maml(size: Size, place: Place) -> Step:
    """Return a step of learn2learn's MAML: a clone, its inner steps and a backward pass for each task."""
    tasks, network = episode(size, place.device), maml_network(size).to(place.device)
    maml = import_learn2learn("algorithms").MAML(network, lr=RATE)

    def error(b: int) -> Tensor:
        clone = maml.clone()
        for _ in range(size.inner_steps):
            clone.adapt(F.cross_entropy(clone(tasks.support.x[b]), tasks.support.y[b]))
        return F.cross_entropy(clone(tasks.query.x[b]), tasks.query.y[b])

    return peer_step(network, tasks, error)


def learn2learn_protonet(size: Size, place: Place) -> Step:
    """Return a step of learn2learn's prototypical classifier."""
    tasks, network = episode(size, place.device), embedding(size).to(place.device)
    classifier = import_learn2learn("nn").PrototypicalClassifier()

    def error(b: int) -> Tensor:
        embedded = network(torch.cat([tasks.support.x[b], tasks.query.x[b]]))
        support, query = embedded.split([len(tasks.support.y[b]), len(tasks.query.y[b])])
        classifier.fit_(support, tasks.support.y[b])
        return F.cross_entropy(classifier(query), tasks.query.y[b])

    return peer_step(network, tasks, error)


def seconds(step: Step, count: int, device: torch.device) -> float:
    """Return the seconds of one of ``count`` steps: on a GPU between two events of its own."""
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - start) / count
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(count):
        step()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1e3 / count


def race(runs: dict[str, Step], device: torch.device, left: float) -> dict[str, list[float]]:
    """Let contenders take turns and return the seconds of a step in each of their turns.

    They share the machine whatever else it does, so figures of one round can be divided.
    """
    start = time.monotonic()
    counts = {name: max(1, round(TURN / seconds(step, 1, device))) for name, step in runs.items()}
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        begin = time.monotonic()
        for name, step in runs.items():
            times[name].append(seconds(step, counts[name], device))
        end = time.monotonic()
        if left - (end - start) < 2 * (end - begin):
            break
    return times


def ratio(slower: Sequence[float], faster: Sequence[float]) -> str:
    """Return "median (least to greatest, rounds)" of the ratios of the rounds."""
    ratios = [one / other for one, other in zip(slower, faster, strict=True)]
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds)"


MAKERS = {
    "MAML": (metalit_maml, learn2learn_maml),
    "PrototypicalNetwork": (metalit_protonet, learn2learn_protonet),
}


def peer_is_missing() -> str:
    """Return why learn2learn cannot be compared with, or nothing."""
    try:
        import_learn2learn("algorithms")
    except ImportError as error:
        return str(error)
    return ""


def check_speed(name: str, size: Size, place: Place, left: float) -> Found:
    """Steps per second against learn2learn, if it is there; first of all both must have the same loss."""
    own, peer = MAKERS[name]
    runs = {"metalit": own(size, place)}
    missing = peer_is_missing()
    if not missing:
        runs["learn2learn"] = peer(size, place)
    losses = [float(step()) for step in runs.values()]
    times = race(runs, place.device, left)
    figures: dict[str, float | str] = {f"{who} steps/s": 1 / median(took) for who, took in times.items()}
    if missing:
        return Found(figures | {"ratio": "not run, learn2learn is not installed"})
    figures["metalit / learn2learn"] = ratio(times["learn2learn"], times["metalit"])
    differ = abs(losses[0] - losses[1]) / losses[1]
    return Found(figures | {"first losses differ by": differ, "limit": SAME_LOSS}, differ <= SAME_LOSS)


def check_compiled_speed(size: Size, place: Place, left: float) -> Found:
    """A compiled step of MAML against an eager one."""
    start = time.monotonic()
    torch.compiler.reset()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compiled = metalit_maml(size, place, engine=Engine(compile=True))
        first = float(compiled())
    refuse_uncompiled(caught)
    took = time.monotonic() - start
    eager = metalit_maml(size, place)
    differ = abs(first / float(eager()) - 1)
    times = race({"eager": eager, "compiled": compiled}, place.device, left - took)
    figures: dict[str, float | str] = {"first call s": took, "steps/s": 1 / median(times["compiled"])}
    figures["compiled / eager"] = ratio(times["eager"], times["compiled"])
    return Found(figures | {"losses differ by": differ, "limit": SAME_LOSS}, differ <= SAME_LOSS)


def peak(step: Step, device: torch.device) -> float:
    """Return the MiB that a step takes at most beyond what was there before it."""
    step()  # what a library keeps from its first call on is not the step's
    if device.type != "cuda":
        step()
        raise NotRunError("CUDA only; the step ran")
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return (torch.cuda.max_memory_allocated(device) - before) / 2**20


def check_memory(make: Callable[[Size, Place], Step], size: Size, place: Place, _: float) -> Found:
    """The peak memory of a training step."""
    return Found({"MiB": peak(make(size, place), place.device)})


def check_peer_memory(name: str, size: Size, place: Place, left: float) -> Found:
    """The peak memory of learn2learn's training step, if it is there."""
    missing = peer_is_missing()
    if missing:
        raise NotRunError(missing)
    return check_memory(MAKERS[name][1], size, place, left)


def check_waits(name: str, size: Size, place: Place, _: float) -> Found:
    """How often a training step waits for the device."""
    step = MAKERS[name][0](size, place)
    step()
    if place.device.type != "cuda":
        raise NotRunError("CUDA only; the step ran")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return Found({"waits": float(sum("synchroniz" in str(warning.message) for warning in caught))})


def checks(place: Place) -> list[Check]:
    """Return all measurements, in the order of their sections."""
    size = Size.on(place.device)
    place = Place(place.device)  # tasks as a user has them mapped
    found = [
        Check("speed", f"{name}/omniglot", f"({size})", partial(check_speed, name, size, place)) for name in MAKERS
    ]
    compiled = partial(check_compiled_speed, size, place)
    found.append(Check("compile", "MAML/omniglot", f"({size})", compiled))
    memory: dict[str, Callable[[Size, Place], Step]] = {
        "": metalit_maml,
        "chunk_size 8": partial(metalit_maml, engine=Engine(chunk_size=8)),
        "checkpoint_steps": partial(metalit_maml, checkpoint_steps=True),
    }
    for variant, make in memory.items():
        found.append(Check("memory", "MAML/omniglot", variant, partial(check_memory, make, size, place)))
    found.append(
        Check("memory", "PrototypicalNetwork/omniglot", "", partial(check_memory, metalit_protonet, size, place))
    )
    for name in MAKERS:
        found += [
            Check("memory", f"{name}/omniglot", "learn2learn", partial(check_peer_memory, name, size, place)),
            Check("memory", f"{name}/omniglot", "waits", partial(check_waits, name, size, place)),
        ]
    return found
