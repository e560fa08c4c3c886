"""Trust region policy optimisation (Schulman et al. 2015, https://arxiv.org/abs/1502.05477), appendix C.

1  g = gradient of the loss                                                        (closure: training step)
2  x = H^-1 g, by conjugate gradients, with H the Hessian of the divergence
3  theta <- theta - sqrt(2 max_divergence / x'Hx) x
4  shorten the step until the loss falls and the divergence is at most max_divergence
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch.optim import Optimizer

from metalit.errors import at_least, not_negative, positive
from metalit.functional.conjugate_gradient import conjugate_gradient
from metalit.functional.vectors import combine, inner_product
from metalit.tasks.parameters import Params


class Problem(Protocol):
    """What a step must know besides the gradient: functions of the parameters by name."""

    def evaluate(self, parameters: Params) -> tuple[float, float]:
        """Return the loss, and the divergence from the policy before the step."""
        ...

    def divergence_product(self, parameters: Params) -> Callable[[Params], Params]:
        """Return the product of the divergence's Hessian with a vector, at the parameters before the step."""
        ...


class TrustRegion(Optimizer):
    """Natural gradient steps of limited divergence, with a line search.

    Args:
        named_parameters: the parameters by name.
        problem: returns the problem of the current batch, after its closure was called.
        max_divergence: the largest mean KL divergence of a step, > 0.
        steps: of conjugate gradients, >= 1.
        damping: added to the Hessian's diagonal, >= 0.
        backtracks: lengths that are tried, >= 1.
        shrinkage: of the step from one length to the next, in (0, 1).

    Attributes:
        last: what the last step did, for the log: divergence, change of the loss, and length (0 if it was refused).
    """

    def __init__(
        self,
        named_parameters: dict[str, torch.nn.Parameter],
        problem: Callable[[], Problem],
        max_divergence: float = 0.01,
        steps: int = 10,
        damping: float = 1e-5,
        backtracks: int = 15,
        shrinkage: float = 0.8,
    ) -> None:
        at_least(1, steps=steps, backtracks=backtracks)
        self.names, self.problem = list(named_parameters), problem
        self.max_divergence = positive("max_divergence", max_divergence)
        self.steps, self.damping = steps, not_negative("damping", damping)
        self.lengths = [shrinkage**number for number in range(backtracks)]
        self.last: dict[str, float] = {}
        super().__init__(named_parameters.values(), {"lr": 1.0})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Call the closure for the gradient, then take one step."""
        assert closure is not None
        with torch.enable_grad():
            loss = closure()
        own = self.param_groups[0]["params"]
        before = {name: parameter.detach().clone() for name, parameter in zip(self.names, own, strict=True)}
        gradient = {name: parameter.grad for name, parameter in zip(self.names, own, strict=True)}
        change = self.change(before, {name: value for name, value in gradient.items() if value is not None})
        self.search(before, change)
        return loss

    def change(self, before: Params, gradient: Params) -> Params:
        """Return the full step (lines 2 and 3)."""
        gradient = {name: gradient.get(name, torch.zeros_like(value)) for name, value in before.items()}
        product = self.problem().divergence_product(before)
        direction = conjugate_gradient(product, gradient, self.steps, self.damping).x
        curvature = inner_product(direction, combine(product(direction), self.damping, direction))
        length = (2 * self.max_divergence / curvature.clamp(min=1e-12)).sqrt()
        return {name: -self.param_groups[0]["lr"] * length * value for name, value in direction.items()}

    @torch.no_grad()
    def search(self, before: Params, change: Params) -> None:
        """Write the longest step that is allowed into the parameters, or leave them as they are (line 4)."""
        start, _ = self.problem().evaluate(before)
        for length in self.lengths:
            after = {name: value + length * change[name] for name, value in before.items()}
            loss, divergence = self.problem().evaluate(after)
            if loss < start and divergence <= self.max_divergence:
                for name, parameter in zip(self.names, self.param_groups[0]["params"], strict=True):
                    parameter.copy_(after[name])
                self.last = {"divergence": divergence, "gain": start - loss, "step_length": length}
                return
        self.last = {"divergence": 0.0, "gain": 0.0, "step_length": 0.0}
