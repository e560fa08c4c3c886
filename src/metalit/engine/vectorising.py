"""What torch cannot vectorise or compile gets an error that says what to do, in place of torch's own words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from metalit.errors import SettingError, UserError

Attempt = Callable[[], object]
NO_DERIVATIVE = ("setup_context", "derivative for", "saved tensor hooks")  # in torch's messages


class CannotVectoriseError(SettingError):
    """``vmap`` cannot take a network or a method, of which one task alone runs."""


class CannotDifferentiateError(UserError):
    """``torch.func`` has no derivative of what a network calls."""


class CannotCompileError(SettingError):
    """``torch.compile`` cannot take a network or a method that runs uncompiled."""


@contextmanager
def explained(one_alone: Attempt, vectorised: Attempt) -> Iterator[None]:
    """Raise an error of torch as what it is: the task's own, one of ``vmap``, one of the compiler, or another.

    Which it is, two attempts tell; they cost nothing where there is no error.

    Args:
        one_alone: runs one task without ``vmap`` and without compiler.
        vectorised: runs some tasks with ``vmap``, if that is what has failed, and without compiler.

    Raises:
        CannotDifferentiateError: torch has no such derivative, by whichever way.
        CannotVectoriseError: one task runs alone, but not vectorised.
        CannotCompileError: both run, uncompiled.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        try:
            one_alone()
        except RuntimeError as cause:
            if any(words in str(cause) for words in NO_DERIVATIVE):
                raise CannotDifferentiateError(
                    f"this network calls a function that torch cannot differentiate so: {first_line(cause)}"
                ) from cause
            raise
        try:
            vectorised()
        except RuntimeError as cause:
            raise CannotVectoriseError(
                "model.engine.mapping",
                "vmap",
                "loop, for torch cannot vectorise this network or method, which runs one task after the other. Torch "
                f"says: {first_line(cause)}",
            ) from cause
        from torch._dynamo.exc import (
            TorchDynamoException,  # takes seconds, and errors of the compiler are rare
        )

        if isinstance(error, TorchDynamoException):
            raise CannotCompileError(
                "model.engine.compile",
                "true",
                "false, for torch cannot compile this network or method, which runs uncompiled. Torch says: "
                f"{first_line(getattr(error, 'inner_exception', error))}",
            ) from error
        raise


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that says something, 300 characters at most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
