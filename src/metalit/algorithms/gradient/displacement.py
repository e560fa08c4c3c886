"""Checks shared by Reptile and FOML, whose meta-gradient is the displacement of the parameters within a task."""

from collections.abc import Collection

from torch import nn

from metalit.errors import UserError


def refuse_idle(network: nn.Module, adapted: Collection[str]) -> None:
    """Refuse trained parameters that do not adapt: their displacement, and so their meta-gradient, is always zero.

    Raises:
        UserError: there are such parameters.
    """
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    idle = [name for name in trained if name not in adapted]
    if idle:
        raise UserError(
            "the meta-gradient is how far parameters move within a task, so what does not adapt would never be "
            f"learned: {', '.join(idle)}; let all parameters adapt, or freeze these"
        )
