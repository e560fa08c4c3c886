"""Preprocessing of numbers that vary over many orders of magnitude, such as gradients, or are skewed."""

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


def signed_root(x: Tensor, exponent: float = 0.5, epsilon: float = 1e-6) -> Tensor:
    """Return sign(x) (|x| + epsilon)^exponent, which makes skewed features more like Gaussian ones.

    (Hu, Gripon and Pateux 2021, equation 1, for features that are not negative.)

    Args:
        x: any shape.
        exponent: > 0; 1/2 is the square root.
        epsilon: > 0; keeps the derivative finite at 0, where value and derivative are 0.
    """
    return x.sign() * (x.abs() + epsilon).pow(exponent)
