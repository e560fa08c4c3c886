"""``functional_call`` for any method of a module, where torch's knows ``forward`` alone, and free where it can be."""

from itertools import chain
from typing import Any

import torch
from torch import nn

from metalit.tasks.parameters import Params


def functional_call(module: nn.Module, parameters: Params, arguments: tuple[Any, ...]) -> Any:
    """Call a module with other parameters and buffers, by name: ``torch.func.functional_call``.

    That takes half a millisecond, as much as one image, and is left out where every tensor is the module's own.
    """
    if not torch.compiler.is_compiling():
        own = dict(chain(module.named_parameters(), module.named_buffers()))
        if all(own.get(name) is value for name, value in parameters.items()):
            return module(*arguments)
    return torch.func.functional_call(module, parameters, arguments)


class Method(nn.Module):
    """One method of a module, as a module of its own.

    Keep it in a tuple, or the parameters are registered twice.

    Args:
        module: the module.
        name: of the method.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *arguments: Any) -> Any:
        """Call the method."""
        return getattr(self.module, self.name)(*arguments)

    def with_parameters(self, parameters: Params, *arguments: Any) -> Any:
        """Call the method with other parameters and buffers, by their names in the module."""
        given = {f"module.{name}": value for name, value in parameters.items()}
        return functional_call(self, given, arguments)
