"""Checks that the device does what the CPU does, in every precision and way of running."""

import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins import MixedPrecision
from lightning.pytorch.strategies import DDPStrategy

from metalit import Engine

from .plan import Check, Found, NotRunError
from .training import (
    STEPS,
    Place,
    Row,
    Trace,
    differences,
    floats,
    ieee_convolutions,
    make,
    quiet_trainer,
    relative,
    train,
)

CPU = Place(torch.device("cpu"))
LIMIT64 = 1e-10  # a dry run stays below 1e-12
# Float32 on the device may differ from float32 on the CPU by this, or by a few times what the CPU's own rounding does.
LIMIT32, ROUNDING = 1e-3, 10.0  # a dry run stays below 1e-4
# As in the battery of the tests: (distance over length, cosine) of the change that training makes, against float32.
MIXED = {"bf16-mixed": (0.5, 0.9), "16-mixed": (0.3, 0.95)}
FEW = (Row("MAML", "sinusoid"), Row("PrototypicalNetwork", "glyphs"), Row("MAML", "glyphs"))


def judged(found: dict[str, float], limit: float) -> Found:
    """Return differences beside their limit."""
    return Found({**found, "limit": limit}, max(found.values()) <= limit)


@cache
def trace(row: Row, place: Place, dtype: torch.dtype) -> Trace:
    """Return the trace of a plain training, which several checks compare with."""
    return train(row, place, dtype)


def check_float64(row: Row, place: Place, _: float) -> Found:
    """The device against the CPU in float64."""
    found = differences(trace(row, place, torch.float64), trace(row, CPU, torch.float64))
    return judged(found, LIMIT64)


def check_float32(row: Row, place: Place, _: float) -> Found:
    """The device against the CPU in float32; a row that multiplies rounding errors on the CPU may do so there."""
    found = differences(trace(row, place, torch.float32), trace(row, CPU, torch.float32))
    rounding = differences(trace(row, CPU, torch.float32), trace(row, CPU, torch.float64))
    return judged(found, max(LIMIT32, ROUNDING * max(rounding.values())))


def scaler(device: torch.device) -> torch.amp.GradScaler:
    """Return a scaler with a scale that overflows in none of the first steps, which would be skipped."""
    return torch.amp.GradScaler(device.type, init_scale=2.0**10)


def check_mixed(precision: str, row: Row, place: Place, _: float) -> Found:
    """The change of all weights in mixed precision goes where that in float32 goes."""
    plugin = MixedPrecision(
        precision,  # type: ignore[arg-type]
        place.device.type,
        scaler=scaler(place.device) if precision == "16-mixed" else None,
    )
    change = train(row, place, torch.float32, plugins=[plugin]).change
    expected = trace(row, place, torch.float32).change
    distance = float((change - expected).norm() / expected.norm())
    cosine = float(torch.cosine_similarity(change, expected, dim=0))
    most, least = MIXED[precision]
    return Found({"distance": distance, "cosine": cosine}, distance < most and cosine > least)


def check_scaler(row: Row, place: Place, _: float) -> Found:
    """Lightning's own ``precision="16-mixed"``, which a CPU does not have, starts at its scale and goes on."""
    if place.device.type == "cpu":
        raise NotRunError("CUDA only")
    steps = train(row, place, torch.float32, precision="16-mixed", max_steps=2 * STEPS)
    return Found({"last loss": float(steps.losses[-1])}, bool(steps.change.isfinite().all()))


def check_compiled(row: Row, place: Place, _: float) -> Found:
    """The compiled training step against the one that is not, in float32 on the device."""
    compiled = compiled_place(place)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = differences(train(row, compiled, torch.float32), trace(row, place, torch.float32))
    refuse_uncompiled(caught)
    return judged(found, LIMIT32)


def compiled_place(place: Place) -> Place:
    """Return the same place with a compiling engine, and forget what was compiled before."""
    torch.compiler.reset()
    return replace(place, engine=Engine(compile=True))


def refuse_uncompiled(caught: Sequence[warnings.WarningMessage]) -> None:
    """Do not call it a success if the engine warned that it went on uncompiled."""
    for warning in caught:
        if "nothing is compiled" in str(warning.message):
            raise NotRunError(str(warning.message))


def check_ddp(row: Row, place: Place, left: float) -> Found:
    """DDP with one rank against no DDP: gradients pass the buckets and hooks, and the group is there."""
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    wait = timedelta(seconds=max(10.0, min(left, 60.0)))
    try:
        strategy = DDPStrategy(process_group_backend=backend, timeout=wait)
        found = train(row, place, torch.float64, strategy=strategy)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    return judged(differences(found, trace(row, place, torch.float64)), LIMIT64)


class SaveAfter(L.Callback):
    """Saves a checkpoint right after a step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save."""
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(row: Row, place: Place, checkpoint: Path | None = None, **options: Any) -> torch.Tensor:
    """Train with dropout and momentum, from a checkpoint or from the start, and return the final weights."""
    momentum = partial(torch.optim.SGD, lr=0.003, momentum=0.9)
    learner, data = make(row, torch.float32, dropout=0.2, optimizer=momentum, engine=place.engine)
    if checkpoint:
        torch.manual_seed(1)  # whatever is random must follow from the checkpoint
    with ieee_convolutions():
        quiet_trainer(place, limit_val_batches=0, **options).fit(learner, data, ckpt_path=checkpoint)
    return floats(learner)


def check_resume(row: Row, place: Place, to: Place, limit: float, _: float) -> Found:
    """Saved after the third of five steps and resumed in another place, against a training without a stop."""
    with tempfile.TemporaryDirectory() as folder:
        middle = Path(folder) / "middle.ckpt"
        straight = fit(row, place, max_steps=5, callbacks=[SaveAfter(3, middle)])
        resumed = fit(row, to, middle, max_steps=5)
    difference = relative(resumed, straight)
    identical = "yes" if torch.equal(resumed, straight) else "no"
    return Found({"weights": difference, "identical": identical, "limit": limit}, difference <= limit)


def check_moves(row: Row, place: Place, left: float) -> Found:
    """A checkpoint of the GPU goes on, on the CPU."""
    if place.device.type == "cpu":
        raise NotRunError("CUDA only")
    return check_resume(row, place, CPU, LIMIT32, left)


def checks(rows: Sequence[Row], place: Place) -> list[Check]:
    """Return all checks of agreement, in the order of their sections."""
    found = []
    for row in rows:
        found += [
            Check("rows", str(row), "float64", partial(check_float64, row, place)),
            Check("rows", str(row), "float32", partial(check_float32, row, place)),
        ]
    first = FEW[-1]
    found.append(Check("precision", str(first), "16-mixed, Lightning's", partial(check_scaler, first, place)))
    for row in rows:
        for precision in MIXED:
            found.append(Check("precision", str(row), precision, partial(check_mixed, precision, row, place)))
    for row in FEW:
        found += [
            Check("compile", str(row), "", partial(check_compiled, row, place)),
            Check("ddp", str(row), "one rank", partial(check_ddp, row, place)),
            Check("resume", str(row), "", partial(check_resume, row, place, place, 1e-6)),
            Check("resume", str(row), "on the CPU", partial(check_moves, row, place)),
        ]
    return found
