"""Every method, on the same tasks: one race for each family, with MAML in each as the measure.

The methods and their settings are those of the table that the tests run over, so a new method comes by itself; networks
and tasks are of Omniglot's size.
"""

import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit.algorithms import MetaLearner
from metalit.data import EpisodicDataModule, Glyphs, Sinusoid
from metalit.networks import (
    MLP,
    AttentiveProcess,
    AugmentedConvNet,
    Classifier,
    ConditionalProcess,
    ContextMLP,
    Conv4,
    ConvMaps,
    FiLMConv4,
    Pixels,
)

from .own import bare_step
from .problems import placed
from .race import Case, Contender, Setting, Step, stepping

sys.path.append(str(Path(__file__).parents[2] / "tests"))
from cases import CASES as ROWS  # the table that the tests run over

WAYS, SHOTS, QUERIES, CLASSES, TASKS = 5, 1, 15, 64, 8
INNER_STEPS, FILTERS, SMALL = 5, 64, 8
# settings of a row that follow from the tasks; a row has the others for itself
OF_TASKS = {"ways": WAYS, "support_size": WAYS * SHOTS, "classes": CLASSES, "inner_steps": INNER_STEPS}

IMAGES: dict[str, Callable[[int], nn.Module]] = {
    "predictor": lambda width: Classifier(Conv4(width, downsample="stride"), WAYS),
    "embedding": lambda width: Conv4(width, batch_norm="running"),
    "transductive": lambda width: Conv4(width, downsample="stride", batch_norm="batch"),
    "renormalised": lambda width: Conv4(width, batch_norm="renorm"),
    "maps": lambda width: ConvMaps(width, batch_norm="batch"),
    "context": lambda width: FiLMConv4(width, ways=WAYS, context_size=100),
    "pixels": lambda _: Pixels(20),
    "augmented": lambda width: AugmentedConvNet(width, ways=WAYS),
}
POINTS: dict[str, Callable[[int], nn.Module]] = {
    "predictor": lambda width: MLP(hidden=(width, width)),
    "context": lambda width: ContextMLP(hidden=(width, width)),
    "process": lambda width: ConditionalProcess(hidden=width),
    "attentive": lambda width: AttentiveProcess(hidden=width, heads=4),
    "embedding": lambda width: MLP(hidden=(width,), outputs=width),
    "renormalised": lambda width: MLP(hidden=(width,), outputs=width),
}


def on_images(name: str) -> bool:
    """Whether a method takes images; the others are measured on points of sinusoids."""
    return "glyphs" in ROWS[name].learning


def called(name: str) -> str:
    """Return the name of a method in the table."""
    return name if on_images(name) else f"{name}, sinusoids"


def make_learner(name: str, setting: Setting) -> MetaLearner:
    """Return a method with a network of Omniglot's size, or of the sinusoids'."""
    torch.manual_seed(0)
    row, images = ROWS[name], on_images(name)
    network = (IMAGES if images else POINTS)[row.network](SMALL if setting.smoke else FILTERS)
    settings: dict[str, Any] = row.settings | row.domain_settings.get("glyphs" if images else "sinusoid", {})
    settings |= {key: value for key, value in OF_TASKS.items() if key in settings}
    parts: dict[str, Any] = {key: make() for key, make in row.parts.items()}
    return row.algorithm(network, **parts, **settings).to(setting.device, setting.dtype)


@cache
def images(**settings: Any) -> EpisodicDataModule:
    """Return 5-way 1-shot tasks of 15 queries a class."""
    own = {"classes": CLASSES, "ways": WAYS, "shots": SHOTS, "queries": QUERIES}
    return Glyphs(**(own | settings))


def step_of(name: str, setting: Setting) -> Step:
    """Return meta-loss and meta-gradient of a method."""
    points = partial(Sinusoid, shots=10, queries=10)
    data = images(**ROWS[name].data_settings) if on_images(name) else points()
    episode = data.episodes("train", 0, 2 if setting.smoke else TASKS)
    return bare_step(make_learner(name, setting), tree_map(lambda leaf: placed(leaf, setting), episode))


def family(name: str) -> str:
    """Return the folder of a method: gradient, metric, ..."""
    return ROWS[name].algorithm.__module__.split(".")[2]


def cases() -> list[Case]:
    """Return a race for each family of methods."""
    found = []
    for each in dict.fromkeys(map(family, ROWS)):
        names = ["MAML", *(name for name in ROWS if family(name) == each and name != "MAML")]
        contenders = [Contender(called(name), stepping(partial(step_of, name)), same_loss=False) for name in names]
        compared = [(name, "MAML") for name in names[1:] if on_images(name)]  # points would be compared with images
        found.append(Case(f"methods/{each}", "methods", contenders, compared, memory=True))
    return found
