"""Implicit MAML (Rajeswaran, Finn, Kakade and Levine 2019, https://arxiv.org/abs/1909.04630), algorithms 1 and 2.

     1  initialise theta
     2  while not done
     3      sample tasks T_b, each with a support set D_b and a query set D'_b              (data module)
     4      for each T_b
     5          phi_b = theta
     6          repeat inner_steps times:  phi_b <- phi_b - alpha F(phi_b)
                    with F(phi) = grad L(phi; D_b) + lambda (phi - theta), the gradient of the regularised loss,
                    or by any other way to where F(phi) = 0
     7          v = grad L(phi_b; D'_b)
     8          solve (H + lambda I) u = v, with H the Hessian of L(.; D_b) at phi_b, by cg_steps of conjugate gradients
     9          the meta-gradient of T_b is lambda u, which is (I + H / lambda)^-1 v
    10      theta <- theta - beta times the sum of the meta-gradients                       (engine, Lightning)

Where line 6 has come to its end, F(phi_b) = 0, and that equation alone, not the path, says how phi_b depends on theta.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vjp

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError, at_least, positive
from metalit.functional.conjugate_gradient import Solution, conjugate_gradient
from metalit.functional.vectors import combine, inner_product, norm
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached, scope
from metalit.tasks.precision import without_autocast
from metalit.update_rules import SGD


class IMAML(GradientBasedMetaLearner):
    """iMAML: a meta-gradient that needs the end of the inner steps, but not the way there.

    Memory in training does not grow with ``inner_steps``, and ``checkpoint_steps`` has nothing to save. Logged besides
    the loss, for the meta-gradient is exact where both are 0: ``train/inner_gradient_norm``, the norm of F(phi_b), and
    ``train/cg_residual``, the residual of line 8 as a share of v.

    Differences from the paper: parameters that do not adapt are meta-learned too, by the same theorem; damping does
    not enter lambda.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the rate of the inner steps; > 0, and for convergence below 2 / (lambda + the largest
            eigenvalue of H).
        inner_steps: inner steps per task in training, >= 0.
        proximal_strength: lambda, how strongly a task is held at theta; > 0. Line 8 can be solved where it exceeds the
            most negative curvature of the support loss.
        line_search: where ``inner_lr`` goes beyond the minimum of the regularised loss along an inner step, by the
            curvature there, stop at it: one more product with the Hessian a step. Nothing in the meta-gradient keeps
            the curvature below what ``inner_lr`` can take; with fixed steps a long training may come to diverge.
        cg_steps: iterations of conjugate gradients, each a product with the Hessian; >= 1.
        cg_damping: added to lambda in line 8 alone, where H is far from positive; >= 0.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        ValueError: a setting out of its range, or an objective that looks at adapted parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.1,
        inner_steps: int = 16,
        proximal_strength: float = 2.0,
        line_search: bool = False,
        cg_steps: int = 5,
        cg_damping: float = 0.0,
        **learner: Any,
    ) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), inner_steps=inner_steps, first_order=False, **learner)
        self.proximal_strength = positive("proximal_strength", proximal_strength)
        at_least(1, cg_steps=cg_steps)
        if cg_damping:
            positive("cg_damping", cg_damping)
        self.inner_lr, self.line_search = inner_lr, line_search
        self.cg_steps, self.cg_damping = cg_steps, cg_damping
        if self.objective.looks_at_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} looks at adapted parameters, and iMAML knows only how "
                "the query loss depends on them: use MAML, or an objective of query losses"
            )

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return phi_b after one more step."""
        force, loss = self.regularised_gradient(meta, support, adapted)  # line 6
        if self.line_search:
            _, product, *_ = vjp(lambda phi: self.regularised_gradient(meta, support, phi)[0], adapted)
            share = self.share_of_step(force, product(force)[0])
            force = {name: share * value for name, value in force.items()}
        return self.update(meta, force, state, adapted, loss)

    def share_of_step(self, force: Params, image: Params) -> Tensor:
        """Return which share of an inner step leads to the minimum along it, 1 at most, 0-d.

        Args:
            force: F(phi), against which the step goes.
            image: (H + lambda I) F(phi).
        """
        squared, curvature = inner_product(force, force), inner_product(force, image)
        overshoots = self.inner_lr * curvature > squared
        return torch.where(overshoots, squared / torch.where(overshoots, self.inner_lr * curvature, 1.0), 1.0)

    def regularised_gradient(self, meta: Params, support: Labelled, adapted: Params) -> tuple[Params, Tensor]:
        """Return F(phi) = grad L(phi) + lambda (phi - theta), and the support loss L(phi)."""
        theta = scope(meta, "network")
        gradient, loss = self.inner_gradient(meta, support, adapted)
        pull = {name: value - theta[name] for name, value in adapted.items()}
        return combine(gradient, self.proximal_strength, pull), loss

    def task(
        self,
        meta: Params,
        support: Labelled,
        query: Labelled,
        ways: int,
        measure: Measure = measure_nothing,
    ) -> Outcome:
        """Learn a task, judge it on the query set, and give the loss its implicit gradient.

        Written anew because the inherited one differentiates through the inner steps. Here the solution of line 8 is a
        constant, and -<u, F> is added to the loss with its value taken away again: its derivative with respect to theta
        is lambda u, and with respect to what does not adapt what the implicit function theorem says.
        """
        constants = detached(meta)
        adapted = self.minimiser(constants, support)
        v = self.query_gradient(constants, query, adapted)  # line 7
        solution = self.solve(constants, support, adapted, v)
        with self.inner_precision(support):
            force, _ = self.regularised_gradient(meta, support, adapted)
        implicit = inner_product(solution.x, {name: value.detach() - value for name, value in force.items()})
        outcome = self.judge(meta, adapted, query)
        measured = {
            "cg_residual": norm(solution.residual) / norm(v),
            "inner_gradient_norm": norm(detached(force)),
        }
        return outcome._replace(loss=outcome.loss + implicit.to(outcome.loss.dtype), measured=measured)

    def minimiser(self, meta: Params, support: Labelled) -> Params:
        """Return phi_b, and forget the inner steps that led there."""
        adapted, state = self.start(meta, support)  # line 5
        with self.inner_precision(support):
            for _ in range(self.inner_steps):
                adapted, state = self.inner_step(meta, support, adapted, state)
        return adapted

    def query_gradient(self, meta: Params, query: Labelled, adapted: Params) -> Params:
        """Return v = grad L(phi_b; D'_b)."""
        loss, pull_back, *_ = vjp(lambda phi: self.loss(meta, phi, query), adapted)
        with without_autocast(loss.device):  # the forward pass has chosen the precisions
            (gradient,) = pull_back(torch.ones_like(loss))
        return gradient  # type: ignore[no-any-return]

    def solve(self, meta: Params, support: Labelled, adapted: Params, v: Params) -> Solution:
        """Return u of line 8; a product with H + lambda I is one backward pass through F."""
        with self.inner_precision(support):
            _, pull_back, *_ = vjp(lambda phi: self.regularised_gradient(meta, support, phi)[0], adapted)

        def product(vector: Params) -> Params:
            (image,) = pull_back({name: value.to(adapted[name].dtype) for name, value in vector.items()})
            return image  # type: ignore[no-any-return]

        # at a minimum with H >= 0 no curvature is below lambda
        return conjugate_gradient(product, v, self.cg_steps, self.cg_damping, self.proximal_strength / 2)

    def inner_precision(self, support: Labelled) -> AbstractContextManager[Any]:
        """Return the context of everything that belongs to the inner problem."""
        return nullcontext() if self.inner_autocast else without_autocast(support.y.device)

    def setting(self) -> dict[str, Any]:
        """Return what a reader of a result must know about the method."""
        return {**super().setting(), "proximal_strength": self.proximal_strength}
