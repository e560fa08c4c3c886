"""The transforms of ``torch.func`` that are active where code runs."""

import torch
from torch._C._functorch import TransformType, get_interpreter_stack


def levels() -> list[TransformType]:
    """Return the active transforms, the outermost first; while compiling they are not known."""
    return [level.key() for level in get_interpreter_stack() or []]


def differentiated_once_at_most() -> bool:
    """Whether code runs outside ``vmap`` and outside an inner gradient, where the fused kernels are right and fast."""
    return not torch.compiler.is_compiling() and levels() in ([], [TransformType.Grad])


def outside_vmap() -> bool:
    """Whether code runs outside ``vmap`` and the compiler."""
    return not torch.compiler.is_compiling() and TransformType.Vmap not in levels()
