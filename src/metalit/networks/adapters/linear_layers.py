"""Finding the linear layers of a network by patterns of their names, and replacing them."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase

from torch import nn

from metalit.errors import SettingError
from metalit.tasks.parameters import listed, matching

# these read the weights of their linear layers without calling them, so a replacement would be passed by
PASS_BY = (nn.MultiheadAttention, nn.TransformerEncoderLayer)


def replace_linear(network: nn.Module, layers: Sequence[str], make: Callable[[nn.Linear], nn.Module]) -> None:
    """Replace the linear layers whose dotted names match the patterns.

    Args:
        network: changed in place.
        layers: shell-style patterns, such as ``*.query``; of what one matches, the linear layers are replaced.
        make: returns what takes the place of a layer.

    Raises:
        SettingError: a pattern matches no linear layer that can be replaced.
    """
    found = replaceable(network)
    for pattern in layers:
        check_matches(network, list(found), pattern, layers)
    names = matching(list(found), layers, "linear layer")
    # a layer in two places is replaced by one module in both
    made = {layer: make(layer) for layer in dict.fromkeys(found[name] for name in names)}
    for name in names:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, made[found[name]])


def replaceable(network: nn.Module) -> dict[str, nn.Linear]:
    """Return the linear layers that are called as they are, by dotted name."""
    return {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if name and type(module) is nn.Linear and is_plain(module) and not is_passed_by(network, name)
    }


def is_plain(module: nn.Module) -> bool:
    """Whether a layer computes from its weight and bias alone: it has no hooks, which a replacement would lose."""
    own = {name for name, _ in module.named_parameters(recurse=False)}
    return own <= {"weight", "bias"} and not (module._forward_hooks or module._forward_pre_hooks)


def is_passed_by(network: nn.Module, name: str) -> bool:
    """Whether the module around one reads its weight instead of calling it."""
    return isinstance(network.get_submodule(name.rpartition(".")[0]), PASS_BY)


def check_matches(network: nn.Module, names: Sequence[str], pattern: str, layers: Sequence[str]) -> None:
    """Refuse a pattern that matches none of the linear layers ``names``.

    Raises:
        SettingError: says what it matches instead, and what there is.
    """
    wanted = [pattern.removeprefix("!")]
    if matches(names, wanted):
        return
    every = dict(network.named_modules(remove_duplicate=False))
    others = matches([name for name in every if name], wanted)
    reason = f"{pattern!r} matches nothing"
    if others:
        kinds = ", ".join(dict.fromkeys(type(every[name]).__name__ for name in others))
        reason = f"{pattern!r} matches {others[0]}{' and others' if others[1:] else ''} of class {kinds}"
        passed = [name for name in others if is_passed_by(network, name)]
        if passed:
            reason += f", and {type(network.get_submodule(passed[0].rpartition('.')[0])).__name__} does not call it"
    raise SettingError(
        "layers", list(layers), f"patterns of torch.nn.Linear layers; {reason}. There are: {listed(names) or 'none'}"
    )


def matches(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match a pattern; none is no error."""
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
