"""Preprocessing of network inputs that vary over many orders of magnitude, such as gradients."""

import math

import torch
from torch import Tensor

from metalit.errors import positive


def log_and_sign(x: Tensor, p: float = 10.0) -> Tensor:
    """Return the log magnitude and the sign of numbers, both of order 1.

        x -> (log|x| / p, sign(x))   if |x| >= exp(-p)
        x -> (-1, exp(p) x)          else

    (Andrychowicz et al. 2016, appendix A; Ravi and Larochelle 2017, section 3.2.) Both parts are continuous in x. They
    are computed by clamping, which is equivalent and has a finite derivative at 0.

    Args:
        x: any shape.
        p: > 0, up to about 80 in float32; exp(-p) is the magnitude below which a number counts as small.

    Returns:
        ``[*x.shape, 2]``, each entry at least -1.

    >>> log_and_sign(torch.tensor([math.e, -1.0, 0.0]))
    tensor([[ 0.1000,  1.0000],
            [ 0.0000, -1.0000],
            [-1.0000,  0.0000]])
    """
    small = math.exp(-positive("p", p))
    # clamp before the logarithm: torch.where over log(0) would give NaN gradients
    size = x.abs().clamp(min=small).log() / p
    sign = (x / small).clamp(-1, 1)
    return torch.stack([size, sign], dim=-1)
