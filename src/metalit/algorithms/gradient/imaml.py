"""Implicit MAML (Rajeswaran, Finn, Kakade and Levine 2019, https://arxiv.org/abs/1909.04630), algorithms 1 and 2.

     1  initialise theta
     2  while not done
     3      sample tasks T_b, each with a support set D_b and a query set D'_b              (data module)
     4      for each T_b
     5          phi_b = theta
     6          repeat inner_steps times:  phi_b <- phi_b - alpha F(phi_b)
                    with F(phi) = grad L(phi; D_b) + lambda (phi - theta), the gradient of the regularised loss,
                    or any other solver of F(phi) = 0
     7          v = grad L(phi_b; D'_b)
     8          solve (H + lambda I) u = v, with H the Hessian of L(.; D_b) at phi_b, by cg_steps of conjugate gradients
     9          the meta-gradient of T_b is lambda u, which is (I + H / lambda)^-1 v
    10      theta <- theta - beta times the sum of the meta-gradients                       (engine, Lightning)

Once line 6 has converged, F(phi_b) = 0. This equation alone, not the path, determines how phi_b depends on theta.
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
    """iMAML: an implicit meta-gradient, which depends on the solution of the inner problem but not on the path to it.

    Memory in training does not grow with ``inner_steps``, so ``checkpoint_steps`` saves nothing. Two additional metrics
    tell how exact the meta-gradient is; it is exact where both are 0. ``train/inner_gradient_norm`` is the norm of
    F(phi_b), ``train/cg_residual`` the norm of the residual of line 8 relative to that of v.

    Differences from the paper: parameters that do not adapt are meta-learned too, by the implicit function theorem;
    damping is not part of lambda.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0. Inner steps converge below 2 / (lambda + the largest eigenvalue
            of H).
        inner_steps: inner steps per task in training, >= 0.
        proximal_strength: lambda, how strongly a task is pulled towards theta; > 0. Line 8 can be solved if lambda
            exceeds the most negative curvature of the support loss in absolute value.
        line_search: shorten an inner step that would overshoot the minimum of the regularised loss along it, as
            predicted by the curvature; costs one more Hessian-vector product per step. Nothing in the meta-gradient
            keeps the curvature small enough for ``inner_lr``, so with fixed steps a long training may diverge.
        cg_steps: iterations of conjugate gradients, one Hessian-vector product each; >= 1.
        cg_damping: added to lambda in line 8 only, for an H that is far from positive definite; >= 0.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a setting out of its range, or an objective that measures adapted parameters.
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
        if self.objective.uses_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} uses adapted parameters, and iMAML knows only how "
                "the query loss depends on them: use MAML, or an objective of query losses"
            )

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return phi_b after one more inner step on the regularised loss."""
        force, loss = self.regularised_gradient(meta, support, adapted)  # line 6
        if self.line_search:
            # the Hessian is symmetric, so a vector-Jacobian product of F is a Hessian-vector product
            _, product, *_ = vjp(lambda phi: self.regularised_gradient(meta, support, phi)[0], adapted)
            share = self.share_of_step(force, product(force)[0])
            force = {name: share * value for name, value in force.items()}
        return self.update(meta, force, state, adapted, loss)

    def share_of_step(self, force: Params, image: Params) -> Tensor:
        """Return the factor by which to shorten an inner step so that it ends at the minimum along it; at most 1, 0-d.

        Args:
            force: F(phi), the negative direction of the step.
            image: (H + lambda I) F(phi).
        """
        squared, curvature = inner_product(force, force), inner_product(force, image)
        overshoots = self.inner_lr * curvature > squared
        # the inner ``where`` keeps zero and negative curvatures out of the denominator
        return torch.where(overshoots, squared / torch.where(overshoots, self.inner_lr * curvature, 1.0), 1.0)

    def regularised_gradient(self, meta: Params, support: Labelled, adapted: Params) -> tuple[Params, Tensor]:
        """Return F(phi) = grad L(phi) + lambda (phi - theta), and the support loss L(phi)."""
        theta = scope(meta, "network")
        gradient, loss = self.inner_gradient(meta, support, adapted)
        pull = {name: value - theta[name] for name, value in adapted.items()}
        return combine(gradient, self.proximal_strength, pull), loss

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Adapt to a task, evaluate on the query set, and give the loss its implicit gradient.

        Overrides the inherited method, which differentiates through the inner steps. Here u of line 8 is a constant,
        and -<u, F> minus its own value is added to the loss: a term of value zero whose derivative is lambda u with
        respect to theta, and that of the implicit function theorem with respect to parameters that do not adapt.
        """
        # no graph over the inner steps and the solver: memory does not grow with their number
        constants = detached(meta)
        adapted = self.minimiser(constants, support)
        v = self.query_gradient(constants, query, adapted)  # line 7
        solution = self.solve(constants, support, adapted, v)
        with self.inner_precision(support):
            # once more, now as a function of the meta-parameters, at the constant phi_b
            force, _ = self.regularised_gradient(meta, support, adapted)
        implicit = inner_product(solution.x, {name: value.detach() - value for name, value in force.items()})
        outcome = self.judge(meta, adapted, query)
        measured = {
            "cg_residual": norm(solution.residual) / norm(v),
            "inner_gradient_norm": norm(detached(force)),
        }
        return outcome._replace(loss=outcome.loss + implicit.to(outcome.loss.dtype), measured=measured)

    def minimiser(self, meta: Params, support: Labelled) -> Params:
        """Return phi_b, the parameters after the last inner step."""
        adapted, state = self.start(meta, support)  # line 5
        with self.inner_precision(support):
            for _ in range(self.inner_steps):
                adapted, state = self.inner_step(meta, support, adapted, state)
        return adapted

    def query_gradient(self, meta: Params, query: Labelled, adapted: Params) -> Params:
        """Return v = grad L(phi_b; D'_b)."""
        loss, pull_back, *_ = vjp(lambda phi: self.loss(meta, phi, query), adapted)
        # the forward pass has chosen the precision of each operation; autocast is not meant for backward passes
        with without_autocast(loss.device):
            (gradient,) = pull_back(torch.ones_like(loss))
        return gradient  # type: ignore[no-any-return]

    def solve(self, meta: Params, support: Labelled, adapted: Params, v: Params) -> Solution:
        """Solve line 8 for u, by conjugate gradients; a product with H + lambda I is one backward pass through F."""
        with self.inner_precision(support):
            _, pull_back, *_ = vjp(lambda phi: self.regularised_gradient(meta, support, phi)[0], adapted)

        def product(vector: Params) -> Params:
            (image,) = pull_back({name: value.to(adapted[name].dtype) for name, value in vector.items()})
            return image  # type: ignore[no-any-return]

        # at a minimum with H >= 0 no direction has less curvature than lambda. Early in training H has negative
        # eigenvalues, where conjugate gradients would take huge steps: stop at a direction with less than lambda / 2
        return conjugate_gradient(product, v, self.cg_steps, self.cg_damping, self.proximal_strength / 2)

    def inner_precision(self, support: Labelled) -> AbstractContextManager[Any]:
        """Return the precision context of the inner problem: inner steps, solver and F."""
        return nullcontext() if self.inner_autocast else without_autocast(support.y.device)

    def setting(self) -> dict[str, Any]:
        """Add lambda to the reported settings."""
        return {**super().setting(), "proximal_strength": self.proximal_strength}
