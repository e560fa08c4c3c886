"""Packages of the extra ``rl``, which are imported only where they are needed."""

from collections.abc import Iterator
from contextlib import contextmanager

from metalit.errors import UserError

INSTALL = "pip install 'metalit[rl]'"


@contextmanager
def needs_extra(name: str) -> Iterator[None]:
    """Turn a failed import into a message.

    Raises:
        UserError: a package is missing.
    """
    try:
        yield
    except ImportError as error:
        raise UserError(f"{name} needs packages that are not installed ({error}): {INSTALL}") from error
