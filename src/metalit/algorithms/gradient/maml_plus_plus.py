"""MAML++ (Antoniou, Edwards and Storkey 2019, https://arxiv.org/abs/1810.09502), section 4.

    1  initialise theta, the rates alpha[l, i] of layer l at step i and the norms gamma[i], beta[i] after i steps
    2  while not done, in epoch e
    3      sample tasks T_b, each with a support set D_b and a query set D'_b                  (data module)
    4      for each T_b
    5          theta_b,0 = theta
    6          for i = 0 .. inner_steps - 1:
    7              g = grad L(theta_b,i; D_b), normalised by the norms of i;  if e < e0: g = stop_gradient(g)
    8              theta_b,i+1[l] = theta_b,i[l] - alpha[l, i] g[l]  for each layer l
    9      (theta, alpha, gamma, beta) <- Adam on  sum_b sum_i v_i(e) L(theta_b,i; D'_b)       (engine, Lightning)

In the paper's terms, LSLR is alpha of lines 1 and 8, BNWB and BNRS are the norms of lines 1 and 7, DA is the condition
of line 7, MSL is v of line 9 (``MultiStepLoss``), and CA is the learning-rate schedule of line 9 (``lr_scheduler``).
"""

from collections.abc import Sequence
from copy import copy
from typing import Any

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.engine import Task
from metalit.episode import Labelled
from metalit.errors import at_least
from metalit.networks.per_step_norms import PerStepNorms
from metalit.objectives import MultiStepLoss, Objective
from metalit.tasks.parameters import Params, scope, select
from metalit.update_rules import SGD
from metalit.update_rules.per_layer_per_step_sgd import PerLayerPerStepSGD


class MAMLPlusPlus(GradientBasedMetaLearner):
    """MAML with the paper's six improvements, which can be switched off; with all of them off it is MAML.

    One of them, cosine annealing of the meta-optimiser's learning rate, is available for every algorithm:
    ``lr_scheduler: {class_path: torch.optim.lr_scheduler.CosineAnnealingLR, init_args: {T_max: EPOCHS}}``.

    Differences from the paper: see docs/algorithms/maml_plus_plus.md.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: initial value of all inner learning rates, for a loss that is a mean over examples; > 0.
        inner_steps: inner steps per task in training; at least 1 if the rates are learned.
        learn_rates: LSLR: learn one learning rate per parameter tensor and inner step; otherwise ``inner_lr`` is fixed.
        per_step_norms: BNWB and BNRS: batch norms have scale, shift and running statistics for each number of inner
            steps taken, and do not adapt in the inner loop. Otherwise they adapt like all other parameters. Has no
            effect on a network without batch norm.
        multi_step_epochs: MSL: number of epochs over which the query losses after all but the last inner step fade out;
            0 for none.
        first_order_epochs: DA: number of first epochs without second derivatives; 0 for none.
        objective: the meta-loss; if given, it replaces the multi-step loss.
        adapted: shell-style patterns of the parameters that adapt.
        first_order: never take second derivatives, in any epoch.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a negative number of epochs, or no inner step to learn a rate for.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.1,
        inner_steps: int = 5,
        learn_rates: bool = True,
        per_step_norms: bool = True,
        multi_step_epochs: int = 10,
        first_order_epochs: int = 0,
        objective: Objective | None = None,
        adapted: Sequence[str] = ("*",),
        first_order: bool = False,
        **learner: Any,
    ) -> None:
        at_least(0, multi_step_epochs=multi_step_epochs, first_order_epochs=first_order_epochs)
        if objective is None and multi_step_epochs > 0:
            objective = MultiStepLoss(multi_step_epochs)
        norms = PerStepNorms(network, inner_steps if per_step_norms else 0)
        # per-step norms are meta-parameters: their gradient is a meta-gradient only
        adapted = [*adapted, *(f"!{name}" for name in norms.parameter_names)]
        rule = PerLayerPerStepSGD(select(network, adapted), inner_lr, inner_steps) if learn_rates else SGD(inner_lr)
        super().__init__(
            network,
            update_rule=rule,
            inner_steps=inner_steps,
            objective=objective,
            adapted=adapted,
            first_order=first_order,
            **learner,
        )
        self.norms = norms
        self.learn_rates, self.per_step_norms = learn_rates, bool(norms.parameter_names)
        self.first_order_epochs = first_order_epochs

    def training_task(self, support: Labelled, objective: Objective, epoch: int | None = None) -> Task:
        """Return the task of an epoch, in first order during the first ``first_order_epochs``."""
        # the order follows from the epoch of each batch, so a resumed run has the right one
        if epoch is None or epoch >= self.first_order_epochs:
            return super().training_task(support, objective, epoch)
        # a shallow copy, which shares all parameters: setting the flag on self would leave it set
        first_order = copy(self)
        first_order.first_order = True
        return super(MAMLPlusPlus, first_order).training_task(support, objective, epoch)

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return theta_b,0, and the state of the update rule with the number of steps taken."""
        adapted, rule = super().start(meta, support)  # line 5
        return adapted, (0, rule)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b,i+1 with the norms of i + 1 steps, which evaluate it."""
        i, rule = state
        # ``adapted`` holds the norms of i steps beside the weights: they normalise the support loss, but do not adapt
        weights = {name: adapted[name] for name in self.adapted_names}
        norms = {f"network.{name}": value for name, value in adapted.items() if name not in weights}
        gradient, loss = self.inner_gradient(meta | norms, support, weights)  # line 7
        weights, rule = self.update(meta, gradient, rule, weights, loss)  # line 8
        # the authors' code evaluates these weights with the norms of i steps, see "Differences from the paper"
        return weights | self.norms.after(i + 1, scope(meta, "norms")), (i + 1, rule)

    def setting(self) -> dict[str, Any]:
        """Add the improvements that are switched on to the reported settings."""
        return {
            **super().setting(),
            "first_order_epochs": self.first_order_epochs,
            "learn_rates": self.learn_rates,
            "per_step_norms": self.per_step_norms,
            "multi_step_epochs": self.objective.epochs if isinstance(self.objective, MultiStepLoss) else 0,
        }
