"""Almost no inner loop (Raghu, Raghu, Bengio and Vinyals 2020, https://arxiv.org/abs/1909.09157), section 5.

    1  initialise theta = (body, head)
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                        (data module)
    4      for each T_b
    5          head_b = head
    6          repeat inner_steps times:  head_b <- head_b - alpha grad_head L(body, head_b; D_b)
    7      theta <- theta - beta grad_theta sum_b L(body, head_b; D'_b)                              (engine, Lightning)

Line 7 trains the body too, and differentiates through line 6, including second derivatives.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.tasks.parameters import Params
from metalit.update_rules import SGD


class ANIL(GradientBasedMetaLearner):
    """MAML in which only the head adapts within a task, in training and at test time.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: alpha, the inner learning rate; > 0. The head alone needs a larger one than a whole network.
        head: shell-style patterns of the parameters that adapt; default: the head of a ``Classifier``. For the last
            layer of an ``MLP`` with two hidden layers, ``["layers.4.*"]``.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.
    """

    def __init__(
        self, network: nn.Module, inner_lr: float = 0.01, head: Sequence[str] = ("head.*",), **learner: Any
    ) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), adapted=head, **learner)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return head_b after one more inner step."""
        # the features are recomputed at each step, though only the head moves: all methods share this code
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)
