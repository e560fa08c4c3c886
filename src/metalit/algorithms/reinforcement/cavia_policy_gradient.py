"""CAVIA for reinforcement learning (Zintgraf et al. 2019, https://arxiv.org/abs/1810.03642), algorithm 2.

1  initialise theta
2  while not done
3      sample tasks T_b                                                                     (data module)
4      for each T_b
5          phi_b = 0
6          repeat inner_steps times: sample trajectories with (phi_b, theta); phi_b <- phi_b + alpha grad_phi J
7          sample trajectories with (phi_b, theta)
8      theta <- a step of the outer optimiser on the trajectories of line 7
"""

from typing import Any

from torch import Tensor, nn

from metalit.algorithms.reinforcement.policy_gradient import PolicyGradientMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope
from metalit.update_rules import SGD


class CAVIAPolicyGradient(PolicyGradientMetaLearner):
    """Adapts a short vector of context parameters to each task; the policy is shared by all tasks.

    Args:
        network: a policy over a network with context parameters, such as ``ContextMLP``.
        inner_lr: alpha, the inner learning rate of the context parameters; > 0.
        **learner: the settings of ``PolicyGradientMetaLearner``.

    Raises:
        UserError: the policy's network takes no context parameters.
    """

    def __init__(self, network: nn.Module, inner_lr: float = 1.0, **learner: Any) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)
        size = getattr(self.policy.network, "context_size", None)
        if not isinstance(size, int):
            raise UserError(
                f"the policy's network is {type(self.policy.network).__name__}, which has no context_size: CAVIA "
                "adapts context parameters, so it takes a policy over a network such as ContextMLP"
            )
        self.context_size = size
        # for ``setting``: no parameter of the network adapts
        self.adapted = ("context",)

    @property
    def adapted_names(self) -> list[str]:
        """Name of the context parameters, which are not parameters of the network."""
        return ["context"]

    def first_parameters(self, meta: Params) -> tuple[Params, Any]:
        """Return context parameters of zero (line 5), and the state of the update rule."""
        weight = next(value for value in scope(meta, "network").values() if value.is_floating_point())
        adapted = {"context": weight.new_zeros(self.context_size)}
        return adapted, self.update_rule.init(adapted)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return phi_b after one more inner step (line 6)."""
        return self.policy_gradient_step(meta, support, adapted, state)

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return the distributions for observations, with one task's context parameters."""
        return functional_call(self.network, scope(meta, "network"), (x, adapted["context"]))  # type: ignore[no-any-return]
