"""Adaptive TAML: MAML whose inner steps are corrected by a learned update. A variant of metalit; there is no paper.

    1  initialise theta, the scale beta and the network g, whose last layer starts at zero
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:
    7              T = mean |grad L(theta_b; D_b)| of each layer, the task embedding
    8              theta_b <- theta_b - alpha grad L(theta_b; D_b) + beta g(theta_b, grad, L, step, T)
    9      (theta, beta, g) <- (theta, beta, g) - eta grad sum_b L(theta_b; D'_b)              (engine, Lightning)

g works on one coordinate at a time (Andrychowicz et al. 2016, https://arxiv.org/abs/1606.04474) and receives gradient
and loss preprocessed as in the LSTM meta-learner (Ravi and Larochelle 2017). With g = 0, as at the start of training,
it is MAML. Line 9 may minimise any objective, including those of task-agnostic meta-learning (Jamal and Qi 2019,
https://arxiv.org/abs/1805.07722).
"""

from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules.residual_update import ResidualUpdate


class AdaptiveTAML(GradientBasedMetaLearner):
    """MAML with a learned, task-dependent correction of every inner step.

    ``first_order`` holds the gradient term of line 8 constant, ``features_first_order`` the inputs of g. They are
    separate settings because only the second derivatives through the inputs of g are unstable: the logarithm of a
    gradient has a derivative of up to exp(10) / 10 where that gradient is small.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the fixed inner learning rate; > 0.
        beta: initial scale of the correction, > 0; learned without a constraint.
        hidden: width of g's hidden layer; at least 1.
        initial_scale: initial standard deviation of the weights of g's last layer, >= 0; 0 starts as MAML.
        features_first_order: hold the inputs of g constant in the meta-gradient: stable and cheaper.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        beta: float = 0.1,
        hidden: int = 20,
        initial_scale: float = 0.0,
        features_first_order: bool = True,
        **learner: Any,
    ) -> None:
        # with the last layer at zero the first meta-step trains that layer only; beta and the rest of g follow
        rule = ResidualUpdate(inner_lr, beta, hidden, initial_scale, features_first_order)  # line 1
        super().__init__(network, update_rule=rule, **learner)
        self.features_first_order = features_first_order

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more corrected inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)
        return self.update(meta, gradient, state, adapted, loss)  # lines 7 and 8

    def setting(self) -> dict[str, Any]:
        """Add ``features_first_order`` to the reported settings."""
        return {**super().setting(), "features_first_order": self.features_first_order}
