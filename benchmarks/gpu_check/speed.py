"""Races of ``benchmarks.speed`` on the device, compiled steps, peak memory, and how often a step waits."""

import warnings
from functools import partial
from statistics import median

import torch
from benchmarks.speed import own
from benchmarks.speed.cases import COMPILED, LIMIT, METALIT, cases
from benchmarks.speed.memory import mib_of_step
from benchmarks.speed.problems import PROBLEMS
from benchmarks.speed.race import ORDINARY, Case, Contender, Setting, race, stepping
from benchmarks.speed.results import Result

from .plan import Check, Found, NotRunError
from .training import Place

RACES = (
    "step/omniglot-pool/order-2/steps-5",
    "metric/protonet/20-way",
    "step/mini/order-2/steps-5",
    "step/omniglot-stride/order-2/steps-5",
    "step/omniglot-pool/order-1/steps-5",
    "step/sine/order-2/steps-1",
    "peers/omniglot-stride/steps-5",
)
WAITS = RACES[:2]
MEMORY = (*WAITS, "inner-loop/omniglot-stride/steps-20")
ON_GPU = Case(
    "compile/omniglot-pool/order-2/steps-5",
    "compile",
    [
        Contender(METALIT, stepping(own.maml(PROBLEMS["omniglot-pool"], 2, 5))),
        Contender(COMPILED, stepping(own.compiled(PROBLEMS["omniglot-pool"], 2, 5))),
    ],
)


def setting_of(place: Place, left: float = ORDINARY) -> Setting:
    """Return how a race is run: as it is measured on a GPU, a little of it in a dry run."""
    dry = place.device.type != "cuda"
    return Setting(place.device, rounds=1 if dry else 7, seconds=left / 8, threads=torch.get_num_threads(), smoke=dry)


def check_race(case: Case, place: Place, left: float) -> Found:
    """Run a race; contenders that must compute the same have the same first loss, or it has failed."""
    result = Result.of(case, race(case, setting_of(place, left)), 0.0)
    found = result.found
    figures: dict[str, float | str] = {f"{name}, ms": 1e3 * median(each) for name, each in found.seconds.items()}
    figures |= {f"{ratio.one} / {ratio.other}": str(ratio) for ratio in result.ratios}
    figures |= {f"{name}, first step s": found.first[name] for name in found.first if name == COMPILED}
    same = [name for name in found.losses if name != case.contenders[0].name]
    return Found(figures | {f"{name} left out": reason for name, reason in found.left_out.items()}, bool(same) or None)


def check_memory(contender: Contender, place: Place, _: float) -> Found:
    """The peak memory of a training step."""
    if place.device.type != "cuda":
        raise NotRunError("CUDA only")
    return Found({"MiB": mib_of_step(contender, setting_of(place))})


def check_waits(contender: Contender, place: Place, _: float) -> Found:
    """How often a training step waits for the device."""
    step = contender.prepare(setting_of(place)).step
    assert step is not None
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


def row_of(case: Case) -> str:
    """Return the row of a case: the algorithm, by which it can be asked for, and the name of the case."""
    return f"{'PrototypicalNetwork' if 'protonet' in case.name else 'MAML'}/{case.name}"


def checks(place: Place) -> list[Check]:
    """Return all measurements, in the order of their sections."""
    place, every = Place(place.device), cases()  # tasks as a user has them mapped
    found = [Check("speed", row_of(every[name]), "", partial(check_race, every[name], place)) for name in RACES]
    found.append(Check("compile", row_of(ON_GPU), "", partial(check_race, ON_GPU, place)))
    for case in map(every.__getitem__, MEMORY):
        for each in case.contenders:
            if each.name != LIMIT:
                found.append(Check("memory", row_of(case), each.name, partial(check_memory, each, place)))
    for case in map(every.__getitem__, WAITS):
        first = case.contenders[0]
        found.append(Check("memory", row_of(case), f"{first.name}, waits", partial(check_waits, first, place)))
    return found
