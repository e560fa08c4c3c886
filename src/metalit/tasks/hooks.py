"""Whether something may change what a module computes."""

from torch import nn
from torch.nn.modules.module import _has_any_global_hook


def is_changed(module: nn.Module) -> bool:
    """Return whether a hook or a ``forward`` set on the instance may change what the module computes."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or "forward" in module.__dict__
    )


def all_are_changed() -> bool:
    """Return whether a hook on all modules may change what they compute."""
    return bool(_has_any_global_hook())  # type: ignore[no-untyped-call]
