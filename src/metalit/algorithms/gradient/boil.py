"""Body only update in the inner loop (Oh, Yoo, Kim and Yun 2021, https://arxiv.org/abs/2008.08882), section 3.

    1  initialise theta = (body, head)
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                        (data module)
    4      for each T_b
    5          body_b = body
    6          repeat inner_steps times:  body_b <- body_b - alpha grad_body L(body_b, head; D_b)
    7      theta <- theta - beta grad_theta sum_b L(body_b, head; D'_b)                              (engine, Lightning)

Line 7 trains the head too, and differentiates through line 6, including second derivatives.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class BOIL(GradientBasedMetaLearner):
    """MAML in which only the body adapts within a task: the features have to change instead of the head.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate of the body; > 0. That of the head is 0.
        head: shell-style patterns of the parameters that do not adapt; default: the head of a ``Classifier``. For the
            last layer of an ``MLP`` with two hidden layers, ``["layers.4.*"]``.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self, network: nn.Module, inner_lr: float = 0.5, head: Sequence[str] = ("head.*",), **learner: Any
    ) -> None:
        # leaving the head out of the inner gradient is the authors' inner learning rate of 0 for it
        body = ("*", *(f"!{pattern}" for pattern in head))
        super().__init__(network, update_rule=SGD(inner_lr), adapted=body, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return body_b after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
