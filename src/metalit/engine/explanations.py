"""Errors that say what to do if torch cannot vectorise, differentiate or compile a network."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from metalit.errors import SettingError, UserError

Attempt = Callable[[], object]
# parts of torch's error messages
NO_DERIVATIVE = ("derivative for", "saved tensor hooks", "support automatic differentiation", "differentiate twice")


class CannotVectoriseError(SettingError):
    """``vmap`` does not support a network or method that runs for a single task."""


class CannotDifferentiateError(UserError):
    """Torch has no derivative of a function that a network calls, or none of its derivative."""


class CannotCompileError(SettingError):
    """``torch.compile`` does not support a network or method that runs uncompiled."""


@contextmanager
def explained(one_alone: Attempt, vectorised: Attempt) -> Iterator[None]:
    """Find out whether an error of torch comes from the task, from ``vmap`` or from the compiler, and say so.

    After an error two attempts tell the cases apart; without an error nothing is run.

    Args:
        one_alone: runs one task without ``vmap`` and without the compiler.
        vectorised: runs some tasks with the mapping that failed, without the compiler.

    Raises:
        CannotDifferentiateError: torch lacks the derivative, with or without ``vmap``.
        CannotVectoriseError: one task runs alone, but the tasks do not run vectorised.
        CannotCompileError: both attempts succeed uncompiled.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # a RuntimeError too, but one that torch explains itself and that further attempts might repeat
    except RuntimeError as error:
        try:
            one_alone()
        except RuntimeError as cause:
            if any(words in str(cause) for words in NO_DERIVATIVE):
                raise CannotDifferentiateError(
                    f"this network calls a function whose derivative torch does not provide: {first_line(cause)}"
                ) from cause
            raise  # the task's own error, which needs no vmap to appear
        try:
            vectorised()
        except RuntimeError as cause:
            raise CannotVectoriseError(
                "model.engine.mapping",
                "vmap",
                "loop: torch cannot vectorise this network or method, which runs one task at a time. Torch "
                f"says: {first_line(cause)}",
            ) from cause
        from torch._dynamo.exc import (
            TorchDynamoException,  # imported here, since the import takes seconds and compiler errors are rare
        )

        if isinstance(error, TorchDynamoException):
            raise CannotCompileError(
                "model.engine.compile",
                "true",
                "false: torch cannot compile this network or method, which runs uncompiled. Torch says: "
                f"{first_line(getattr(error, 'inner_exception', error))}",
            ) from error
        raise


def first_line(error: BaseException) -> str:
    """Return the first non-empty line of an error's message, cut to 300 characters; its class if there is none."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__
