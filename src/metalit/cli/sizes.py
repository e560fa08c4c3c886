"""Lengths of inputs and outputs that networks take from the data."""

from collections.abc import Iterator
from typing import Any

from jsonargparse import Namespace

from metalit.cli.factories import resolve
from metalit.data import EpisodicDataModule


def unknown_sizes(settings: Namespace) -> list[tuple[Namespace, str]]:
    """Return the settings of networks that are null and that the data can say, as pairs of settings and name.

    Args:
        settings: ``model`` and ``data``, with class paths.
    """
    data, model = settings.get("data"), settings.get("model")
    if not isinstance(data, Namespace) or not isinstance(model, Namespace) or "class_path" not in data:
        return []
    kind = resolve(str(data.class_path))
    if not (isinstance(kind, type) and issubclass(kind, EpisodicDataModule)):
        return []
    return [(each, name) for each in _classes(model) for name in kind.sized if each.get(name, 0) is None]


def fill_in(settings: Namespace, data: EpisodicDataModule) -> None:
    """Write into the settings of networks what they do not say of the data."""
    sizes = data.sizes()
    for each, name in unknown_sizes(settings):
        if name in sizes:
            each[name] = sizes[name]


def _classes(settings: Any) -> Iterator[Namespace]:
    """Yield the arguments of each class that the settings name, at any depth."""
    values = settings if isinstance(settings, list) else vars(settings).values()
    if isinstance(settings, Namespace) and isinstance(arguments := settings.get("init_args"), Namespace):
        yield arguments
    for value in values:
        if isinstance(value, Namespace | list):
            yield from _classes(value)
