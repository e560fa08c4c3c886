"""Parameters as plain mappings from name to tensor."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from torch import Tensor

Params = dict[str, Tensor]


def scope(parameters: Mapping[str, Tensor], prefix: str) -> Params:
    """Return the entries under ``prefix.``, without the prefix."""
    start = len(prefix) + 1
    return {name[start:]: value for name, value in parameters.items() if name.startswith(prefix + ".")}


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Return the names that match any of the shell-style patterns, e.g. ``["head.*"]``.

    Raises:
        ValueError: a pattern matches no name.
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(
                f"the pattern {pattern!r} matches none of the network's parameters; these are: {', '.join(names)}"
            )
    return [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
