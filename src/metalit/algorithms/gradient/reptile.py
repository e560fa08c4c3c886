"""Reptile (Nichol, Achiam and Schulman 2018, https://arxiv.org/abs/1803.02999), algorithm 2, batched.

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a set D_b of examples                                   (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  theta_b <- a step of SGD or Adam on the loss of a mini-batch of D_b
    7      theta <- theta + epsilon times the mean of (theta_b - theta)                        (Lightning)

Line 7 is gradient descent with learning rate epsilon on the mean of 1/2 ||theta - theta_b||^2, theta_b held constant
(``ReptileLoss``). Automatic optimisation, mixed precision and several processes therefore work as for any method.
"""

from typing import Any, Literal

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.gradient.displacement import refuse_idle
from metalit.algorithms.gradient.mini_batches import INNER_OPTIMIZERS, empty_queue, next_mini_batch
from metalit.episode import Labelled
from metalit.errors import at_least
from metalit.objectives import Objective, ReptileLoss
from metalit.tasks.parameters import Params


class Reptile(GradientBasedMetaLearner):
    """Reptile: the initialisation moves towards the adapted parameters of each task.

    Tasks are learned from the support set alone; in training the query set is used for ``train/accuracy`` only.

    Differences from the paper: Adam's second moments start at zero in every task; in the authors' code they persist.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: the inner learning rate; > 0.
        inner_steps: inner steps per task in training; >= 1.
        inner_optimizer: ``adam`` with beta1 = 0 and beta2 = 0.999, or ``sgd``.
        inner_batch_size: support examples per inner step, drawn without replacement and reshuffled in each pass.
            Default, and if at least the size of the support set: all examples, unshuffled.
        eval_inner_batch_size: the same in validation, testing and prediction; default: ``inner_batch_size``.
        objective: the meta-loss; default: ``ReptileLoss``. With ``QueryLoss`` it is first-order MAML on mini-batches.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a setting out of its range, or trained parameters that do not adapt.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.001,
        inner_steps: int = 5,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_batch_size: int | None = None,
        eval_inner_batch_size: int | None = None,
        objective: Objective | None = None,
        **learner: Any,
    ) -> None:
        super().__init__(
            network,
            update_rule=INNER_OPTIMIZERS[inner_optimizer](inner_lr),
            inner_steps=inner_steps,
            first_order=True,  # ReptileLoss takes no derivative through the inner steps
            objective=ReptileLoss() if objective is None else objective,
            **learner,
        )
        at_least(
            1,
            inner_steps=inner_steps,
            inner_batch_size=inner_batch_size,
            eval_inner_batch_size=eval_inner_batch_size,
        )
        self.inner_batch_size = inner_batch_size
        self.eval_inner_batch_size = inner_batch_size if eval_inner_batch_size is None else eval_inner_batch_size
        # another objective has a gradient for parameters that do not adapt, ReptileLoss has none
        if isinstance(self.objective, ReptileLoss):
            refuse_idle(network, self.adapted_names)

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return theta, and the state of the optimiser with an empty queue of mini-batches."""
        adapted, state = super().start(meta, support)  # line 5
        return adapted, (empty_queue(support), state)

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta_b after one more inner step on a mini-batch."""
        queue, moments = state
        size = self.inner_batch_size if self.training else self.eval_inner_batch_size
        batch, queue = next_mini_batch(support, queue, size)
        gradient, loss = self.inner_gradient(meta, batch, adapted)
        adapted, moments = self.update(meta, gradient, moments, adapted, loss)  # line 6
        return adapted, (queue, moments)
