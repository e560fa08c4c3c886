"""Networks that need statistics of the training inputs, which the learner hands over before the first episode."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import nn


class ObservesInputs(ABC):
    """A part of a network with buffers that are computed once from all inputs of the training split.

    A learner calls ``observe`` before training, unless the statistics came with a checkpoint, and before a test of a
    method that is not trained. Labels are never handed over.
    """

    @property
    @abstractmethod
    def observed(self) -> bool:
        """Whether the statistics are there."""

    @abstractmethod
    def observe(self, batches: Iterable[Any]) -> None:
        """Compute the statistics from batches of inputs ``[n, ...]``, on the network's device."""


def observers(network: nn.Module) -> list[ObservesInputs]:
    """Return the parts of a network whose statistics are still missing."""
    return [part for part in network.modules() if isinstance(part, ObservesInputs) and not part.observed]
