"""The list of layers that may be differentiated over ``vmap``, because tests cover them.

Reverse mode over ``vmap`` is silently wrong for some layers (docs/guide/gradients.md). tests/test_layers.py compares it
with a loop, in float64, for every class listed here, under its condition if it has one, and for every module that
metalit defines. A network with any other module is differentiated inside ``vmap``.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from torch import nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from metalit.tasks.hooks import all_are_changed, is_changed
from metalit.tasks.parameters import walk

Accepts = Callable[[Any], bool]

# Tested classes, each with a condition on the module or None. Only exact types count: a subclass may compute anything.
TESTED: dict[type[nn.Module], Accepts | None] = dict.fromkeys(
    (
        # NonDynamicallyQuantizableLinear is the output projection of nn.MultiheadAttention
        nn.Linear, NonDynamicallyQuantizableLinear, nn.Bilinear, nn.Identity, nn.Flatten, nn.Unflatten,
        nn.Sequential, nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict,
        nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
        nn.Fold, nn.Unfold, nn.ChannelShuffle, nn.PixelShuffle, nn.PixelUnshuffle,
        nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d,
        nn.CosineSimilarity, nn.PairwiseDistance,
        nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
        nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm,
        nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout,
        nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
        nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
        nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d, nn.LPPool1d, nn.LPPool2d, nn.LPPool3d,
        nn.MaxUnpool1d, nn.MaxUnpool2d, nn.MaxUnpool3d,
        nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d,
        nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d,
        nn.ZeroPad1d, nn.ZeroPad2d, nn.ZeroPad3d, nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d,
        nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d,
        nn.CELU, nn.ELU, nn.GELU, nn.GLU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh, nn.LeakyReLU,
        nn.LogSigmoid, nn.LogSoftmax, nn.Mish, nn.PReLU, nn.RReLU, nn.ReLU, nn.ReLU6, nn.SELU, nn.SiLU, nn.Sigmoid,
        nn.Softmax, nn.Softmax2d, nn.Softmin, nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink,
        nn.Threshold,
        nn.MultiheadAttention, nn.TransformerEncoderLayer, nn.TransformerEncoder,
        nn.TransformerDecoderLayer, nn.TransformerDecoder, nn.Transformer,
    )
) | {
    nn.Embedding: lambda module: not module.scale_grad_by_freq,
    nn.EmbeddingBag: lambda module: not module.scale_grad_by_freq,
}  # fmt: skip
_announced: WeakSet[nn.Module] = WeakSet()  # learners already announced; weak, so that they can be garbage-collected


def uncertified(learner: nn.Module) -> str | None:
    """Return why a learner's gradients must be taken inside ``vmap``, or None if they may be taken over it.

    Args:
        learner: a module with all modules that a task runs, and with the ``objective`` if there is one.
    """
    if all_are_changed():
        return "a hook on all modules is not on the list of what is tested over vmap"
    for _, module in walk(learner):
        # The learner itself is exempt from is_changed: no task calls its forward, and Lightning replaces it under DDP.
        tested = is_own(type(module).__module__) if module is learner else is_tested(module)
        if not tested:
            return f"{place(learner, module)} {untested(module)}"
    objective = getattr(learner, "objective", None)
    if objective is not None and not is_own(type(objective).__module__):
        return f"the objective {type(objective).__name__} is not on the list of classes tested over vmap"
    return None


def is_tested(module: nn.Module) -> bool:
    """Return whether a module, without its children, is of a tested class and unmodified."""
    kind = type(module)
    if kind not in TESTED:
        return is_own(kind.__module__) and not is_changed(module)
    accepts = TESTED[kind]
    return (accepts is None or accepts(module)) and not is_changed(module)


def is_own(module: str) -> bool:
    """Return whether a Python module, given by its dotted name, belongs to metalit."""
    return module.startswith("metalit.")


def untested(module: nn.Module) -> str:
    """Return why a module does not count as tested, as the predicate of a sentence."""
    if is_changed(module):
        return "has a hook or a replaced forward, which is not tested over vmap"
    if type(module) in TESTED:
        return "has options whose gradient over vmap would be wrong"
    return "is not on the list of classes tested over vmap"


def place(learner: nn.Module, module: nn.Module) -> str:
    """Return a module's class, and its name in the learner in parentheses."""
    name = next(name for name, each in learner.named_modules() if each is module)
    return f"{type(module).__name__} ({name})" if name else type(module).__name__


def announce(learner: nn.Module, reason_to_loop: str | None) -> None:
    """Log once per learner how its meta-gradients are taken, and why.

    Args:
        learner: as in ``uncertified``.
        reason_to_loop: why its tasks run one after the other; None if they run over ``vmap``.
    """
    if learner in _announced:
        return
    _announced.add(learner)
    from lightning.pytorch.utilities import (
        rank_zero_info,  # imported here, since importing Lightning takes seconds and plain networks do not need it
    )

    if reason_to_loop is not None:
        rank_zero_info(f"meta-gradients are taken one task after the other (mapping: auto): {reason_to_loop}")
        return
    reason = uncertified(learner)
    if reason is None:
        rank_zero_info("meta-gradients are taken over vmap: all layers are on the list of those tested with it")
    else:
        rank_zero_info(f"meta-gradients are taken inside vmap, which is right for all layers: {reason}")
