"""Meta-SGD (Li, Zhou, Chen and Li 2017, https://arxiv.org/abs/1707.09835), algorithm 1.

    1  initialise theta and the rates alpha, a vector as long as theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  theta_b <- theta_b - alpha * grad L(theta_b; D_b)    (elementwise)
    7      (theta, alpha) <- (theta, alpha) - beta grad_(theta, alpha) sum_b L(theta_b; D'_b)  (engine, Lightning)

In the paper, ``inner_steps`` is 1. Line 7 differentiates through line 6, including second derivatives.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params, select
from metalit.update_rules.per_parameter_sgd import PerParameterSGD, uniform_rates


class MetaSGD(GradientBasedMetaLearner):
    """MAML with a meta-learned inner learning rate for every single parameter, and so a learned direction.

    Differences from the paper: more than one inner step is possible, all with the same learning rates.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: initial inner learning rates, > 0: one number for all, or bounds [low, high] between which each is
            drawn uniformly. They are learned without a constraint and may become negative.
        adapted: shell-style patterns of the parameters that adapt; only these have learning rates.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: bounds that are not positive or in the wrong order.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float | tuple[float, float] = 0.01,
        adapted: Sequence[str] = ("*",),
        **learner: Any,
    ) -> None:
        # the paper draws the initial rates from an interval; a single number starts as MAML
        rule = PerParameterSGD(uniform_rates(select(network, adapted), inner_lr))  # line 1
        super().__init__(network, update_rule=rule, adapted=adapted, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
