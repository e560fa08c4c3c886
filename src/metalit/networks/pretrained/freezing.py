"""Which parts of a pretrained network are trained: none, the last blocks, or all."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

from metalit.errors import SettingError, UserError

Trained = int | Literal["none", "all"]


def trained_parts(network: nn.Module, trained: Trained, blocks: Sequence[str] = ()) -> list[str]:
    """Return the dotted names of all modules that are trained, those within them included.

    The last N blocks are trained together with everything that the network registers after the first of them: later
    blocks, a last norm, a pooling layer. Parameters of a module around the blocks, such as a class token, are not.

    Args:
        network: the pretrained network.
        trained: ``none``, ``all``, or N >= 1.
        blocks: dotted names of the blocks, or of lists of blocks, in order; found by ``find_blocks`` if not given.

    Raises:
        SettingError: N is not among 1 .. number of blocks.
    """
    order = [name for name, _ in network.named_modules()]
    if trained == "none":
        return []
    if trained == "all":
        return order
    names = find_blocks(network, blocks)
    if not 1 <= trained <= len(names):
        raise SettingError(
            "trained", trained, f"none, all, or one of 1 to {len(names)}: {names[0]} .. {names[-1]} are the blocks"
        )
    return order[order.index(names[-trained]) :]


def find_blocks(network: nn.Module, given: Sequence[str] = ()) -> list[str]:
    """Return the dotted names of a network's blocks, in order.

    Without ``given``, they are the children of the ``ModuleList`` or ``Sequential`` that lies least deep; of several,
    the one with the most parameters. A name in ``given`` that is such a list stands for its children.

    Raises:
        UserError: there is no such module or list.
    """
    modules = dict(network.named_modules())
    if not given:
        lists = [name for name, module in modules.items() if is_list(module) and len(list(module.children())) > 1]
        if not lists:
            raise UserError(f"{type(network).__name__} has no list of blocks: name them by ``blocks``")
        given = [min(lists, key=lambda name: (name.count(".") + bool(name), -size(modules[name])))]
    names: list[str] = []
    for name in given:
        if name not in modules:
            known = ", ".join(name for name in modules if name.count(".") < 2 and name)
            raise SettingError("blocks", list(given), f"names of parts of {type(network).__name__}, such as {known}")
        children = [f"{name}.{child}".lstrip(".") for child, _ in modules[name].named_children()]
        names += children if is_list(modules[name]) else [name]
    return names


def is_list(module: nn.Module) -> bool:
    """Whether a module is a plain list of others."""
    return isinstance(module, nn.ModuleList | nn.Sequential)


def size(module: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def freeze(network: nn.Module, parts: Sequence[str]) -> None:
    """Let the parameters of the trained parts alone require a gradient."""
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.rpartition(".")[0] in set(parts))


def resting(network: nn.Module, parts: Sequence[str], batch_norm_rests: bool) -> list[str]:
    """Return the dotted names of the modules that stay in evaluation mode.

    Args:
        network: the pretrained network.
        parts: the trained parts.
        batch_norm_rests: whether the batch norms of trained parts are among them.
    """
    trained = set(parts)
    around = {part.rpartition(".")[0] for part in parts}  # a module around a trained one is in training mode as well
    while more := {name.rpartition(".")[0] for name in around if name} - around:
        around |= more
    return [
        name
        for name, module in network.named_modules()
        if name not in trained | around or (batch_norm_rests and isinstance(module, nn.modules.batchnorm._BatchNorm))
    ]
