"""Numbers of very different sizes, made fit to be the input of a network."""

import math

import torch
from torch import Tensor

from metalit.errors import positive


def log_and_sign(x: Tensor, p: float = 10.0) -> Tensor:
    """Return the size and the sign of numbers, each of the order of 1.

        x -> (log|x| / p, sign(x))   if |x| >= exp(-p)
        x -> (-1, exp(p) x)          else

    (Andrychowicz et al. 2016, appendix A; Ravi and Larochelle 2017, section 3.2.) Both parts are continuous, and are
    computed as the clamps they amount to, so that the derivative at 0 is a number.

    Args:
        x: any shape.
        p: > 0, up to about 80 in float32; numbers below exp(-p) count as small.

    Returns:
        ``[*x.shape, 2]``, each at least -1.

    >>> log_and_sign(torch.tensor([math.e, -1.0, 0.0]))
    tensor([[ 0.1000,  1.0000],
            [ 0.0000, -1.0000],
            [-1.0000,  0.0000]])
    """
    small = math.exp(-positive("p", p))
    size = x.abs().clamp(min=small).log() / p
    sign = (x / small).clamp(-1, 1)
    return torch.stack([size, sign], dim=-1)
