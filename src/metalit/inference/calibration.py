"""Calibrations of a run that were computed before: ``predict`` and ``export`` of the same classes need the same one."""

import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from metalit.algorithms.task_learner import TaskLearner
from metalit.data import ClassificationDataModule
from metalit.data.features import examples_sha256
from metalit.files import write_text
from metalit.inference.threshold import EPISODES, KEPT, QUERIES, Threshold, validation_sizes
from metalit.networks.pretrained.weights import tensors_sha256

FILE = "calibration.json"
VERSION = "calibration 1"  # of the computation; a new one invalidates older files


def remembered(folder: Path, key: str, calibrate: Callable[[], Threshold]) -> Threshold:
    """Return the calibration under a key in the folder of a run, or compute it and keep it there.

    Args:
        folder: the folder of the run; if it cannot be written, nothing is kept.
        key: see ``calibration_key``.
        calibrate: computes it.
    """
    kept = _read(folder / FILE)
    if key in kept:
        return Threshold(**kept[key])
    threshold = calibrate()
    with suppress(OSError):  # else computed again the next time
        write_text(folder / FILE, json.dumps({**kept, key: threshold._asdict()}, indent=1) + "\n")
    return threshold


def calibration_key(
    learner: TaskLearner,
    data: ClassificationDataModule,
    ways: int,
    shots: int,
    value: float | None,
    episodes: int | None = None,
) -> str:
    """Return a digest of all that a calibration depends on: the learner, the validation data and the task.

    Arguments and errors are those of ``calibrated``.
    """
    sizes = validation_sizes(data)
    task = [ways, shots, value, data.seed, EPISODES if episodes is None else episodes, QUERIES, KEPT, sizes.tolist()]
    parts = [VERSION, json.dumps(learner.setting(), sort_keys=True, default=str), json.dumps(task)]
    parts += [tensors_sha256(learner), examples_sha256(data.stores["val"])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
