"""``functional_call`` for any method of a module, where torch's knows ``forward`` alone."""

from typing import Any

from torch import nn
from torch.func import functional_call

from metalit.functional.parameters import Params


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
        if not parameters:
            return self(*arguments)  # nothing to replace; replacing takes half a millisecond
        given = {f"module.{name}": value for name, value in parameters.items()}
        return functional_call(self, given, arguments)
