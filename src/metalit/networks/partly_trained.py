"""Networks that say what they are, and those of which a part is frozen: what a learner has to know of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from torch import nn


class StatesSetting(ABC):
    """A network, or a part of one, whose settings belong to a result."""

    @abstractmethod
    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a result."""


class PartlyTrained(nn.Module, StatesSetting):
    """A network with frozen parts, which stay in evaluation mode when it is put into training mode."""

    def train_all(self) -> None:
        """Set every part to training mode, frozen ones included, until ``train`` is called."""
        for module in self.modules():
            module.training = True


def partly_trained(modules: Iterable[nn.Module]) -> list[PartlyTrained]:
    """Return the partly trained networks among some modules, one within another before it.

    In this order each may call ``train``: the outer one decides what rests in the inner one.
    """
    return [module for module in modules if isinstance(module, PartlyTrained)][::-1]


def settings_of_parts(modules: Iterable[nn.Module]) -> dict[str, Any]:
    """Return the settings of all networks among some modules that have any to state with a result.

    Of two settings of one name, that of the outer network counts: it decides what is trained in the inner one.
    """
    stating = [module for module in modules if isinstance(module, StatesSetting)][::-1]
    return {name: value for part in stating for name, value in part.setting().items()}
