"""What the methods share whose meta-gradient is how far parameters move within a task."""

from collections.abc import Collection

from torch import nn

from metalit.errors import UserError


def refuse_idle(network: nn.Module, adapted: Collection[str]) -> None:
    """Refuse parameters that are trained but do not adapt: nothing would ever move them.

    Raises:
        ValueError: there are some.
    """
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    idle = [name for name in trained if name not in adapted]
    if idle:
        raise UserError(
            "the meta-gradient is how far parameters move within a task, so what does not adapt would never be "
            f"learned: {', '.join(idle)}; let all parameters adapt, or freeze these"
        )
