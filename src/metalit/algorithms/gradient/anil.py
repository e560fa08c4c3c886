"""Almost no inner loop (Raghu, Raghu, Bengio and Vinyals 2020, https://arxiv.org/abs/1909.09157), section 5.

    1  initialise theta = (body, head)
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                        (data module)
    4      for each T_b
    5          head_b = head
    6          repeat inner_steps times:  head_b <- head_b - alpha grad_head L(body, head_b; D_b)
    7      theta <- theta - beta grad_theta sum_b L(body, head_b; D'_b)                              (engine, Lightning)

Line 7 learns the body too, and differentiates through line 6, second derivatives included.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class ANIL(GradientBasedMetaLearner):
    """MAML of which only the head adapts within a task, in training and in the test.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the rate of the inner steps; > 0. A head alone wants a larger one than a whole network.
        head: shell-style patterns of the parameters that adapt; those of ``Classifier``'s head if not given, and
            ``["layers.4.*"]`` is the last layer of an ``MLP`` with two hidden layers.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self, network: nn.Module, inner_lr: float = 0.01, head: Sequence[str] = ("head.*",), **learner: Any
    ) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), adapted=head, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return head_b after one more step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
