"""Parameters as plain mappings from name to tensor."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from metalit.errors import UserError, about

Params = dict[str, Tensor]

MANY = 40  # names that a message lists


def trained_and_fixed(module: nn.Module) -> tuple[Params, Params]:
    """Return (trained parameters, buffers and frozen parameters) by dotted name, each tensor once.

    The names are those of ``named_parameters`` and ``named_buffers``. One walk over the modules finds both, for it is
    taken at every step.
    """
    trained: Params = {}
    frozen: Params = {}
    buffers: Params = {}
    seen: set[int] = set()
    for name, each in walk(module):
        prefix = name and name + "."
        for own, buffer in each._buffers.items():
            if buffer is not None and id(buffer) not in seen:
                seen.add(id(buffer))
                buffers[prefix + own] = buffer
        for own, parameter in each._parameters.items():
            if parameter is not None and id(parameter) not in seen:
                seen.add(id(parameter))
                (trained if parameter.requires_grad else frozen)[prefix + own] = parameter
    return trained, buffers | frozen


def walk(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield what ``named_modules`` does, in its order and a third of its time."""
    # torch nests a generator for each level, and hashes modules, which is slow for metrics
    seen: set[int] = set()
    coming = [("", module)]
    while coming:
        name, each = coming.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield name, each
        prefix = name and name + "."
        coming += [(prefix + own, child) for own, child in reversed(each._modules.items()) if child is not None]


def scope(parameters: Mapping[str, Tensor], prefix: str) -> Params:
    """Return the entries whose names start with ``prefix.``, with the prefix removed."""
    start = len(prefix) + 1
    return {name[start:]: value for name, value in parameters.items() if name.startswith(prefix + ".")}


def detached(parameters: Mapping[str, Tensor]) -> Params:
    """Return the same values as constants, through which no gradient flows."""
    return {name: value.detach() for name, value in parameters.items()}


def matching(names: Sequence[str], patterns: Sequence[str], kind: str = "parameter") -> list[str]:
    """Return the names that match one of the shell-style patterns and none of the patterns that start with ``!``.

    Args:
        names: dotted names of the network's parameters, or of other parts of it.
        patterns: e.g. ``["head.*"]``, or ``["*", "!head.*"]`` for everything but the head.
        kind: what the names stand for, used in error messages.

    Raises:
        UserError: a pattern matches no name, or no name is left.
    """
    # a misspelt pattern would otherwise silently select something else
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern.removeprefix("!")) for name in names):
            raise UserError(
                f"the pattern {pattern!r} matches none of the network's {kind}s; these are: {listed(names)}"
            )
    wanted = [pattern for pattern in patterns if not pattern.startswith("!")]
    unwanted = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    found = [
        name
        for name in names
        if any(fnmatchcase(name, pattern) for pattern in wanted)
        and not any(fnmatchcase(name, pattern) for pattern in unwanted)
    ]
    if not found:
        raise UserError(f"the patterns {list(patterns)} leave no {kind}; there are: {listed(names)}")
    return found


def listed(names: Sequence[str]) -> str:
    """Return names for a message; if they are many, as the patterns that they follow from layer to layer."""
    if len(names) > MANY:
        names = list(dict.fromkeys(re.sub(r"(?<![^.])\d+(?![^.])", "*", name) for name in names))
    more = f" and {len(names) - MANY} more" if len(names) > MANY else ""
    return ", ".join(names[:MANY]) + more


def select(network: nn.Module, patterns: Sequence[str], setting: str = "adapted") -> dict[str, nn.Parameter]:
    """Return the parameters of a network whose names match the patterns, in the order of the network.

    The pattern ``*`` selects all parameters that require a gradient; errors name ``setting``, which holds the patterns.

    Raises:
        UserError: a pattern matches no name, a pattern other than ``*`` matches a frozen parameter, or no parameter is
            left.
    """
    parameters = dict(network.named_parameters())
    frozen = [name for name, parameter in parameters.items() if not parameter.requires_grad]
    with about(setting):
        for pattern in patterns:
            named = [name for name in frozen if pattern != "*" and fnmatchcase(name, pattern)]
            if named:
                raise UserError(
                    f"the pattern {pattern!r} lets {listed(named)} adapt, but requires_grad is false there: a "
                    "frozen parameter never moves, so leave it out or unfreeze it"
                )
        chosen = [name for name in matching(list(parameters), patterns) if name not in frozen]
        if not chosen:
            raise UserError(f"the patterns {list(patterns)} leave no parameter, for all are frozen")
    return {name: parameters[name] for name in chosen}


class ParameterTable(nn.Module):
    """Meta-parameters indexed by the names of a network's parameters, one tensor per name.

    Args:
        values: initial values by dotted name.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.names = list(values)
        for name, value in values.items():
            self.register_parameter(_key(name), nn.Parameter(value))

    def forward(self) -> Params:
        """Return the current values by dotted name."""
        return {name: getattr(self, _key(name)) for name in self.names}


def _key(name: str) -> str:
    return name.replace(".", "/")  # torch does not allow dots in parameter names
