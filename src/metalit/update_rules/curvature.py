"""The update rule of Meta-Curvature: the gradient is transformed by a meta-learned matrix along each of its axes."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from metalit.errors import positive
from metalit.tasks.parameters import ParameterTable, Params
from metalit.update_rules.base import UpdateRule


class Curvature(UpdateRule):
    """Gradient descent with one fixed learning rate on a transformed gradient (Park and Oliva 2019).

        weight of a convolution, gradient G [out, in, d]:  theta - lr * G x_out M_out x_in M_in x_filter M_filter
        weight of a linear layer,         G [out, in]:     theta - lr * G x_out M_out x_in M_in
        bias, scale or shift,             g [n]:           theta - lr * factors * g, elementwise

    where d is the number of positions in a filter and G x_axis M is ``mode_product``. All M are initialised to the
    identity and all factors to one, which is plain gradient descent; training does not constrain them.

    Args:
        parameters: the parameters that adapt, by name; only shapes and dtypes are used. Two axes are a linear layer's
            weight, three and more a convolution's.
        lr: inner learning rate alpha, for a loss that is a *mean* over examples; > 0.
        sets: number of sets of matrices, one per inner step; later steps use the last set. With 1, all steps share it.

    Raises:
        SettingError: the rate is not positive.
    """

    def __init__(self, parameters: Mapping[str, Tensor], lr: float, sets: int = 1) -> None:
        super().__init__()
        assert sets >= 1
        self.lr, self.sets = positive("inner_lr", lr), sets
        # by the number of axes: weights have output and input channels, filters positions too, the others neither
        weights = {name: value for name, value in parameters.items() if value.dim() >= 2}
        filters = {name: value[0, 0] for name, value in weights.items() if value.dim() >= 3}
        others = {name: value for name, value in parameters.items() if value.dim() < 2}
        self.output = ParameterTable({name: identities(sets, len(w), w) for name, w in weights.items()})
        self.input = ParameterTable({name: identities(sets, w.shape[1], w) for name, w in weights.items()})
        self.filter = ParameterTable({name: identities(sets, f.numel(), f) for name, f in filters.items()})
        self.factors = ParameterTable({name: value.new_ones(sets, *value.shape) for name, value in others.items()})

    def init(self, parameters: Params) -> int:
        """Return the number of steps taken, 0."""
        return 0

    def forward(self, gradient: Params, state: int, parameters: Params, loss: Tensor) -> tuple[Params, int]:
        """Return theta - lr * transformed gradient, with the matrices of this step, and the number of steps taken."""
        step = min(state, self.sets - 1)
        tables = [table() for table in (self.output, self.input, self.filter)]
        factors: Params = self.factors()
        # a linear layer's weight is in the first two tables only
        updated: Params = {}
        for name, value in parameters.items():
            if name in factors:
                direction = factors[name][step] * gradient[name]
            else:
                direction = transformed(gradient[name], [table[name][step] for table in tables if name in table])
            updated[name] = value - self.lr * direction
        return updated, state + 1


def transformed(gradient: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Return a gradient ``[out, in, ...]`` multiplied by a matrix along each axis; a filter's axes count as one."""
    flat = gradient.flatten(2) if gradient.dim() > 2 else gradient
    for axis, matrix in enumerate(matrices):
        flat = mode_product(flat, matrix, axis)
    return flat.reshape(gradient.shape)


def mode_product(tensor: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Return the mode product: every fibre along one axis of length n is multiplied by a matrix ``[n, n]``."""
    product: Tensor = torch.tensordot(matrix, tensor, dims=([1], [axis]))
    # tensordot puts the matrix's axis first
    return product.movedim(0, axis)


def identities(count: int, size: int, like: Tensor) -> Tensor:
    """Return identity matrices ``[count, size, size]`` in the dtype and on the device of a tensor."""
    return torch.eye(size, dtype=like.dtype, device=like.device).repeat(count, 1, 1)
