"""``functional_call`` for any method of a module, and without overhead when no tensor is replaced."""

from itertools import chain
from typing import Any

import torch
from torch import nn

from metalit.tasks.parameters import Params


def functional_call(module: nn.Module, parameters: Params, arguments: tuple[Any, ...]) -> Any:
    """Call a module with the given parameters and buffers, by name.

    ``torch.func.functional_call`` takes half a millisecond, as long as the forward pass of one image. If every tensor
    is already the module's own, the module is called directly.
    """
    if not torch.compiler.is_compiling():
        own = dict(chain(module.named_parameters(), module.named_buffers()))
        if all(own.get(name) is value for name, value in parameters.items()):
            return module(*arguments)
    return torch.func.functional_call(module, parameters, arguments)


class Method(nn.Module):
    """A module whose ``forward`` is one method of another module.

    ``torch.func.functional_call`` can call ``forward`` only. Store a ``Method`` in a tuple: as a plain attribute of a
    learner it would register the module's parameters a second time.

    Args:
        module: the module.
        name: name of the method.
    """

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *arguments: Any) -> Any:
        """Call the method."""
        return getattr(self.module, self.name)(*arguments)

    def with_parameters(self, parameters: Params, *arguments: Any) -> Any:
        """Call the method with the given parameters and buffers, by their names in the module."""
        given = {f"module.{name}": value for name, value in parameters.items()}
        return functional_call(self, given, arguments)
