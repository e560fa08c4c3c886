"""Keyed random numbers: replacements for PyTorch's random functions that draw from the task's key.

Each takes the task's context as its first argument, followed by the arguments of the function it replaces.
"""

import math
from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from metalit.errors import UserError
from metalit.tasks.precision import full_precision

ALPHA = 1.7580993408473766  # SELU's alpha times its scale: SELU saturates at -ALPHA


class Source(Protocol):
    """A source of random bits: the task's context."""

    def bits(self, like: Tensor) -> Tensor:
        """Return 32 fresh random bits per element of ``like``, as int64."""


def uniform(task: Source, like: Tensor) -> Tensor:
    """Return float64 numbers uniform in (0, 1) in the shape of ``like``."""
    return (task.bits(like) + 0.5) / 2**32  # + 0.5 excludes 0, since normal and exponential_ take the logarithm


def normal(task: Source, like: Tensor) -> Tensor:
    """Return standard normal float64 numbers in the shape of ``like`` (Box and Muller 1958)."""
    radius, angle = uniform(task, like), uniform(task, like)
    return (-2 * radius.log()).sqrt() * (2 * math.pi * angle).cos()


def keep(task: Source, like: Tensor, p: float) -> Tensor:
    """Return a boolean mask in the shape of ``like``, True with probability 1 - p."""
    return task.bits(like) >= p * 2**32


def scaled_mask(task: Source, like: Tensor, p: float) -> Tensor:
    """Return a dropout mask with entries 0 and 1/(1-p)."""
    # at p = 1 the mask is 0: 1/(1-p) would divide by zero
    return keep(task, like, p).to(like.dtype) / (1 - p) if p < 1 else torch.zeros_like(like)


def result(input: Tensor, value: Tensor, inplace: bool) -> Tensor:
    """Return ``value``, written into ``input`` if the function is in place."""
    return input.copy_(value) if inplace else value


def dropout(task: Source, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Replace ``F.dropout``."""
    if not training or p == 0:
        return input
    return result(input, input * scaled_mask(task, input, p), inplace)


def channels(input: Tensor) -> Tensor:
    """Return a tensor with one element per channel of ``[examples, channels, ...]``, which broadcasts to the input."""
    if input.dim() <= 2:
        return input
    return input.flatten(2)[..., 0].reshape(*input.shape[:2], *[1] * (input.dim() - 2))


def channel_dropout(
    task: Source, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> Tensor:
    """Replace ``F.dropout2d`` and the like, which drop whole channels of ``[examples, channels, ...]``."""
    if not training or p == 0:
        return input
    return result(input, input * scaled_mask(task, channels(input), p), inplace)


def unbatched_channel_dropout(dims: int) -> Callable[..., Tensor]:
    """Return ``channel_dropout`` for inputs with or without an axis of examples.

    Args:
        dims: number of axes of a batched input.
    """

    def drop(task: Source, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if input.dim() == dims:
            return channel_dropout(task, input, p, training, inplace)
        return channel_dropout(task, input.unsqueeze(0), p, training, inplace).squeeze(0)

    return drop


def alpha_dropout(task: Source, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Replace ``F.alpha_dropout`` (Klambauer et al. 2017), which preserves mean and variance."""
    return alpha_dropped(task, input, input, p, training, inplace)


def feature_alpha_dropout(
    task: Source, input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """Replace ``F.feature_alpha_dropout``, which drops whole channels."""
    return alpha_dropped(task, input, channels(input), p, training, inplace)


def alpha_dropped(task: Source, input: Tensor, like: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
    """Set dropped elements to SELU's negative saturation value, then scale and shift.

    Args:
        task: the task's context.
        input: the activations.
        like: one element for each independent draw; it broadcasts to ``input``.
        p: probability that an element is dropped.
        training: whether anything is dropped.
        inplace: whether the result is written into ``input``.
    """
    if not training or p == 0:
        return input
    if p == 1:
        return result(input, torch.zeros_like(input), inplace)
    # the affine map that restores mean and variance (Klambauer et al. 2017)
    scale = 1 / math.sqrt((ALPHA**2 * p + 1) * (1 - p))
    kept = keep(task, like, p).to(input.dtype)
    value = input * (scale * kept) + ((kept - 1) * (ALPHA * scale) + ALPHA * scale * p)
    return result(input, value, inplace)


def native_dropout(task: Source, input: Tensor, p: float, train: bool | None) -> tuple[Tensor, Tensor]:
    """Replace ``torch.native_dropout``."""
    if not train or p == 0:
        return input, torch.ones_like(input, dtype=torch.bool)
    kept = keep(task, input, p)
    return (input * kept / (1 - p) if p < 1 else torch.zeros_like(input)), kept


# The mathematical kernel computes in float32. Inside torch.func autocast rounds its products once more, beneath the
# level that records them, and the backward pass fails on a product of two types.
whole_attention = full_precision(F.scaled_dot_product_attention)


def attention(
    task: Source,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Replace ``F.scaled_dot_product_attention``: with dropout, by its definition in PyTorch's documentation."""
    # torch draws the mask of attention's dropout inside the kernel, where no key can reach it
    if dropout_p == 0:
        return whole_attention(query, key, value, attn_mask, 0.0, is_causal, scale=scale, enable_gqa=enable_gqa)
    if enable_gqa:
        groups = query.size(-3) // key.size(-3)
        key, value = key.repeat_interleave(groups, -3), value.repeat_interleave(groups, -3)
    scores = query @ key.transpose(-2, -1) * (query.size(-1) ** -0.5 if scale is None else scale)
    if is_causal:
        seen = torch.ones(query.size(-2), key.size(-2), dtype=torch.bool, device=query.device).tril()
        scores = scores.masked_fill(~seen, -torch.inf)
    if attn_mask is not None:
        is_bool = attn_mask.dtype == torch.bool
        scores = scores.masked_fill(~attn_mask, -torch.inf) if is_bool else scores + attn_mask
    return dropout(task, scores.softmax(-1), dropout_p) @ value


def factory(draw: Callable[[Source, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return a replacement for ``torch.rand`` or the like.

    Args:
        draw: draws the values, given a tensor of their shape.
    """

    def make(task: Source, *size: Any, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
        refuse_generator(options)
        values = torch.empty(*size, **{**options, "dtype": dtype or torch.get_default_dtype()})
        return draw(task, values).to(values.dtype)

    return make


def factory_like(draw: Callable[[Source, Tensor], Tensor]) -> Callable[..., Tensor]:
    """Return a replacement for ``torch.rand_like`` or the like.

    Args:
        draw: draws the values, given a tensor of their shape.
    """

    def make(task: Source, input: Tensor, dtype: torch.dtype | None = None, **options: Any) -> Tensor:
        refuse_generator(options)
        return draw(task, input).to(dtype or input.dtype)

    return make


def bernoulli(task: Source, input: Tensor, p: float | None = None, **options: Any) -> Tensor:
    """Replace ``torch.bernoulli``."""
    refuse_generator(options)
    return (uniform(task, input) < (input if p is None else p)).to(input.dtype)


def bernoulli_(task: Source, target: Tensor, p: float | Tensor = 0.5, **options: Any) -> Tensor:
    """Replace ``Tensor.bernoulli_``."""
    refuse_generator(options)
    return target.copy_(uniform(task, target) < p)


def uniform_(task: Source, target: Tensor, low: float = 0, high: float = 1, **options: Any) -> Tensor:
    """Replace ``Tensor.uniform_``."""
    refuse_generator(options)
    return target.copy_(low + (high - low) * uniform(task, target))


def normal_(task: Source, target: Tensor, mean: float = 0, std: float = 1, **options: Any) -> Tensor:
    """Replace ``Tensor.normal_``."""
    refuse_generator(options)
    return target.copy_(mean + std * normal(task, target))


def exponential_(task: Source, target: Tensor, lambd: float = 1, **options: Any) -> Tensor:
    """Replace ``Tensor.exponential_``."""
    refuse_generator(options)
    return target.copy_(-uniform(task, target).log() / lambd)


def randperm(task: Source, n: int, **options: Any) -> Tensor:
    """Replace ``torch.randperm``."""
    refuse_generator(options)
    options = {"dtype": torch.int64, **options}
    # sorting random numbers gives a uniform permutation without a loop, under vmap too
    return uniform(task, torch.empty(n, device=options.get("device"))).argsort().to(options["dtype"])


def own_empty(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a replacement for ``torch.empty`` or the like that gives each task its own tensor to write into."""

    def empty(task: Any, *args: Any, **kwargs: Any) -> Tensor:
        values = make(*args, **kwargs)
        # vmap cannot write a batched value into an unbatched tensor; adding 0 * key batches it
        fresh: Tensor = values.zero_() + (0 * task.key).to(values)
        return fresh

    return empty


def refuse_generator(options: dict[str, Any]) -> None:
    """Refuse an explicit generator: vectorised, looped and recomputed tasks would read its numbers in another order."""
    if options.pop("generator", None) is not None:
        raise UserError(
            "the network draws random numbers from a generator of its own, but they must be the same wherever and "
            "however often a task is computed: leave generator out"
        )


def refused(name: str) -> Callable[..., Any]:
    """Return a replacement that raises, for a random function without a keyed version."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise UserError(
            f"the network calls {name}, whose random numbers differ wherever and whenever a task is computed: use "
            "dropout, torch.rand, torch.randn or torch.bernoulli, which within a task are drawn by its key"
        )

    return refuse


def rrelu(
    task: Source,
    input: Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Replace ``F.rrelu``, a leaky ReLU with random slopes."""
    slope = (lower + (upper - lower) * uniform(task, input)).to(input.dtype) if training else (lower + upper) / 2
    return result(input, torch.where(input < 0, slope * input, input), inplace)


# random functions without a keyed version, by the name the error shows
REFUSED: dict[str, Any] = {
    "torch.normal": torch.normal,
    "torch.poisson": torch.poisson,
    "torch.binomial": torch.binomial,
    "torch.multinomial": torch.multinomial,
    "Tensor.multinomial": Tensor.multinomial,
    "torch.randint": torch.randint,
    "torch.randint_like": torch.randint_like,
    "Tensor.random_": Tensor.random_,
    "Tensor.geometric_": Tensor.geometric_,
    "Tensor.cauchy_": Tensor.cauchy_,
    "Tensor.log_normal_": Tensor.log_normal_,
    "torch.dropout_": torch.dropout_,
    "torch.alpha_dropout_": torch.alpha_dropout_,
    "torch.feature_dropout_": torch.feature_dropout_,
    "torch.feature_alpha_dropout_": torch.feature_alpha_dropout_,
    "torch.rrelu": torch.rrelu,
    "torch.rrelu_": torch.rrelu_,
    "F.gumbel_softmax": F.gumbel_softmax,
    "F.fractional_max_pool2d": F.fractional_max_pool2d,
    "F.fractional_max_pool2d_with_indices": F.fractional_max_pool2d_with_indices,
    "F.fractional_max_pool3d": F.fractional_max_pool3d,
    "F.fractional_max_pool3d_with_indices": F.fractional_max_pool3d_with_indices,
}
# random functions and their replacements; functions absent here would read torch's global generator
DRAWS: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys((F.dropout, torch.dropout), dropout),
    **dict.fromkeys((torch.feature_dropout,), channel_dropout),
    F.dropout1d: unbatched_channel_dropout(3),
    F.dropout2d: channel_dropout,  # torch too reads a 3-D input as [examples, channels, length], not as unbatched
    F.dropout3d: unbatched_channel_dropout(5),
    **dict.fromkeys((F.alpha_dropout, torch.alpha_dropout), alpha_dropout),
    **dict.fromkeys((F.feature_alpha_dropout, torch.feature_alpha_dropout), feature_alpha_dropout),
    torch.native_dropout: native_dropout,
    F.scaled_dot_product_attention: attention,
    F.rrelu: rrelu,
    torch.rand: factory(uniform),
    torch.randn: factory(normal),
    torch.rand_like: factory_like(uniform),
    torch.randn_like: factory_like(normal),
    torch.randperm: randperm,
    torch.bernoulli: bernoulli,
    Tensor.bernoulli: bernoulli,
    Tensor.bernoulli_: bernoulli_,
    Tensor.uniform_: uniform_,
    Tensor.normal_: normal_,
    Tensor.exponential_: exponential_,
    # not random themselves, but a network may fill them with draws, which differ between tasks
    torch.empty: own_empty(torch.empty),
    torch.empty_like: own_empty(torch.empty_like),
    Tensor.new_empty: own_empty(Tensor.new_empty),
    **{function: refused(name) for name, function in REFUSED.items()},
}
