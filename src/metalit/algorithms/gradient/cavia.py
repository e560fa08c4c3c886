"""Fast context adaptation via meta-learning (Zintgraf et al. 2019, https://arxiv.org/abs/1810.03642), algorithm 1.

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                       (data module)
    4      for each T_b
    5          phi = 0
    6          repeat inner_steps times:  phi <- phi - alpha grad_phi L(f(., phi; theta); D_b)
    7      theta <- theta - beta grad_theta sum_b L(f(., phi; theta); D'_b)                         (engine, Lightning)

Line 7 differentiates through line 6, including second derivatives.
"""

from typing import Any

from torch import Tensor, nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope
from metalit.update_rules import SGD


class CAVIA(GradientBasedMetaLearner):
    """Adapts a short vector of context parameters to each task; the network is shared by all tasks.

    Args:
        network: a network with an attribute ``context_size``, called with inputs ``[n, ...]`` and context parameters
            ``[context_size]``, e.g. ``ContextMLP`` or ``FiLMConv4``.
        inner_lr: alpha, the inner learning rate of the context parameters; > 0. Learned weights multiply these
            parameters and can make up for any alpha in a long training. In a short one a small alpha costs accuracy,
            because the weights have to grow first.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: the network takes no context parameters.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 1.0, **learner: Any) -> None:
        size = getattr(network, "context_size", None)
        if not isinstance(size, int):
            raise UserError(
                f"{type(network).__name__} has no context_size: CAVIA adapts context parameters, so it takes a network "
                "called with inputs and these, such as ContextMLP or FiLMConv4"
            )
        super().__init__(network, update_rule=SGD(inner_lr), adapted=("*",), **learner)
        self.context_size = size
        # for ``setting``: no parameter of the network adapts, though the pattern above matches all of them
        self.adapted = ("context",)

    @property
    def adapted_names(self) -> list[str]:
        """Name of the context parameters, which are not parameters of the network."""
        return ["context"]

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return context parameters of zero, and the state of the update rule."""
        # made for each task, in no checkpoint; dtype and device are those of the network
        weight = next(value for value in scope(meta, "network").values() if value.is_floating_point())
        adapted = {"context": weight.new_zeros(self.context_size)}  # line 5
        return adapted, self.update_rule.init(adapted)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return phi after one more inner step."""
        gradient, loss = self.inner_gradient(meta, support, adapted)  # line 6
        return self.update(meta, gradient, state, adapted, loss)

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return f(x, phi; theta)."""
        return functional_call(self.network, scope(meta, "network"), (x, adapted["context"]))  # type: ignore[no-any-return]
