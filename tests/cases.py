"""THE table: one row per algorithm. The battery in algorithms/test_battery.py runs over it.

A new algorithm adds one row; what is special about it is a field of the row, never an ``if`` in a test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import nn

from metalit.algorithms import FOMAML, MAML, MetaLearner, PrototypicalNetwork
from metalit.data import EpisodicDataModule, Glyphs, Sinusoid
from metalit.networks import MLP, Classifier, Conv4

SMALL = {
    "tasks_per_batch": 4,
    "eval_tasks_per_batch": 3,
    "episodes_per_epoch": 8,
    "val_episodes": 5,
    "test_episodes": 5,
}


@dataclass(frozen=True)
class Domain:
    """A family of tasks in miniature, with a network that fits each kind of algorithm."""

    data: Callable[..., EpisodicDataModule]
    networks: dict[str, Callable[[], nn.Module]]


DOMAINS = {
    "sinusoid": Domain(
        lambda **settings: Sinusoid(**({"shots": 5, "queries": 10} | SMALL | settings)),
        {"predictor": lambda: MLP(hidden=(20, 20))},
    ),
    "glyphs": Domain(
        lambda **settings: Glyphs(
            **({"classes": 40, "ways": 3, "shots": 2, "queries": 3} | SMALL | settings)
        ),
        {
            "predictor": lambda: Classifier(Conv4(channels=8, downsample="stride"), ways=3),
            "embedding": lambda: Conv4(channels=8, batch_norm="running"),
        },
    ),
}


@dataclass(frozen=True)
class Learning:
    """What a few hundred meta-steps on a toy family must reach, with a margin over what they do reach."""

    steps: int
    learning_rate: float
    loss_below: float


@dataclass(frozen=True)
class Case:
    """One algorithm.

    Attributes:
        algorithm: the class.
        network: which of a domain's networks it takes.
        settings: constructor arguments, small enough for a test.
        learning: the domains it is for, and what it must learn there.
        adapts: whether predictions change with inner steps.
        order_matters: whether the order of the support set may change predictions.
    """

    algorithm: type[MetaLearner]
    network: str
    learning: dict[str, Learning]
    settings: dict[str, Any] = field(default_factory=dict)
    adapts: bool = True
    order_matters: bool = False

    def make(self, domain: str, *, dropout: float = 0.0, **settings: Any) -> MetaLearner:
        """Return a learner for one of the row's domains; its network may drop a share of its inputs."""
        network = DOMAINS[domain].networks[self.network]()
        if dropout:
            network.register_forward_pre_hook(
                lambda network, inputs: F.dropout(inputs[0], dropout, network.training)
            )
        return self.algorithm(network, **(self.settings | settings))


CASES = {
    "MAML": Case(
        MAML,
        network="predictor",
        settings={"inner_lr": 0.05, "inner_steps": 2},
        learning={"sinusoid": Learning(300, 0.01, 2.0), "glyphs": Learning(150, 0.01, 0.9)},
    ),
    "FOMAML": Case(
        FOMAML,
        network="predictor",
        settings={"inner_lr": 0.05, "inner_steps": 2},
        learning={"sinusoid": Learning(300, 0.01, 2.5), "glyphs": Learning(150, 0.01, 0.95)},
    ),
    "PrototypicalNetwork": Case(
        PrototypicalNetwork,
        network="embedding",
        learning={"glyphs": Learning(60, 0.01, 0.6)},
        adapts=False,
    ),
}
