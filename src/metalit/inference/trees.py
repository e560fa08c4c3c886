"""What a learner has learned, a pytree of tensors, as JSON and a list of tensors; and back."""

import inspect
import sys
from pkgutil import resolve_name
from typing import Any

from torch import Tensor

from metalit.errors import UserError

Spec = Any  # what JSON can hold


def packed(tree: Any, tensors: list[Tensor]) -> Spec:
    """Return the structure of a pytree as JSON, and append its tensors to ``tensors``.

    Raises:
        UserError: it holds something else than tensors, numbers, text, dictionaries, lists and (named) tuples.
    """
    if isinstance(tree, Tensor):
        tensors.append(tree)
        return {"tensor": len(tensors) - 1}
    if tree is None or isinstance(tree, bool | int | float | str):
        return {"value": tree}
    if isinstance(tree, dict):
        return {"dict": [[key, packed(value, tensors)] for key, value in tree.items()]}
    if isinstance(tree, tuple | list):
        return {_name(type(tree)): [packed(part, tensors) for part in tree]}
    raise UserError(f"a {type(tree).__name__} cannot be saved: only tensors, numbers, text and containers of them can")


def unpacked(spec: Spec, tensors: list[Tensor]) -> Any:
    """Return the pytree that ``packed`` was given.

    Raises:
        UserError: the structure names something else than a container.
    """
    ((kind, content),) = spec.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "value":
        return content
    if kind == "dict":
        return {key: unpacked(part, tensors) for key, part in content}
    parts = [unpacked(part, tensors) for part in content]
    return parts if kind == "list" else tuple(parts) if kind == "tuple" else _named_tuple(kind)(*parts)


def _name(kind: type) -> str:
    return kind.__name__ if kind in (tuple, list) else f"{kind.__module__}:{kind.__qualname__}"


def _named_tuple(path: str) -> type:
    # the file may be untrusted, so only classes that can do no more than hold values, of modules
    # that the learner has imported already
    found = resolve_name(path) if path.partition(":")[0] in sys.modules else None
    if not (inspect.isclass(found) and issubclass(found, tuple) and path == _name(found)):
        raise UserError(f"{path} is not a named tuple")
    return found
