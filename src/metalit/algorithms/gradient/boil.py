"""Body only update in the inner loop (Oh, Yoo, Kim and Yun 2021, https://arxiv.org/abs/2008.08882), section 3.

    1  initialise theta = (body, head)
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                        (data module)
    4      for each T_b
    5          body_b = body
    6          repeat inner_steps times:  body_b <- body_b - alpha grad_body L(body_b, head; D_b)
    7      theta <- theta - beta grad_theta sum_b L(body_b, head; D'_b)                              (engine, Lightning)

Line 7 learns the head too, and differentiates through line 6, second derivatives included.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class BOIL(GradientBasedMetaLearner):
    """MAML whose head does not adapt within a task: the features must change instead.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the rate of the inner steps on the body; > 0. The head's is 0.
        head: shell-style patterns of the parameters that do not adapt; those of ``Classifier``'s head if not given,
            and ``["layers.4.*"]`` is the last layer of an ``MLP`` with two hidden layers.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self, network: nn.Module, inner_lr: float = 0.5, head: Sequence[str] = ("head.*",), **learner: Any
    ) -> None:
        body = ("*", *(f"!{pattern}" for pattern in head))
        super().__init__(network, update_rule=SGD(inner_lr), adapted=body, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return body_b after one more step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
