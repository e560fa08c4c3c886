"""FOML, first-order MAML in the form of Reptile (Nichol, Achiam and Schulman 2018, https://arxiv.org/abs/1803.02999).

The paper compares Reptile with it. The algorithm follows the authors' code,
https://github.com/openai/supervised-reptile/blob/8f2b71c67a31c1a605ced0cecb76db876b607a7a/supervised_reptile/reptile.py

    1  initialise theta
    2  while not done
    3      sample tasks T_b, each with a support set D_b and a query set D'_b, the "tail"      (data module)
    4      for each T_b
    5          theta_b = theta
    6          repeat inner_steps times:  theta_b <- a step of SGD or Adam on the loss of a mini-batch of D_b
    7          phi_b = theta_b; repeat tail_steps times:  phi_b <- a step of the same on the loss of D'_b
    8      theta <- theta + epsilon times the mean of (phi_b - theta_b)                        (Lightning)
"""

from contextlib import nullcontext
from typing import Any, Literal

from torch import nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.gradient.displacement import refuse_idle
from metalit.algorithms.gradient.mini_batches import INNER_OPTIMIZERS, empty_queue, next_mini_batch
from metalit.episode import Labelled
from metalit.errors import UserError, at_least
from metalit.functional.vectors import combine, inner_product
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params, detached, scope
from metalit.tasks.precision import without_autocast


class FOML(GradientBasedMetaLearner):
    """FOML: the initialisation moves by the displacement of the last inner steps, those on the query set.

    With SGD and one tail step the meta-gradient is ``inner_lr`` times that of first-order MAML.

    Differences from the authors' code: the tail is the whole query set, for one or more steps. Adam's second moments
    start at zero in every task; in the authors' code they persist.

    Args:
        network: the network; its parameters are the meta-learned initialisation.
        inner_lr: the learning rate of the inner and tail steps; > 0.
        inner_steps: inner steps on the support set, per training task; >= 0.
        tail_steps: steps on the query set, which give the meta-gradient; >= 1.
        inner_optimizer: ``adam`` with beta1 = 0 and beta2 = 0.999, or ``sgd``.
        inner_batch_size: support examples per inner step, drawn without replacement and reshuffled in each pass.
            Default, and if at least the size of the support set: all examples, unshuffled.
        eval_inner_batch_size: the same in validation, testing and prediction; default: ``inner_batch_size``.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a setting out of its range, trained parameters that do not adapt, or an objective that measures
            adapted parameters.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.001,
        inner_steps: int = 4,
        tail_steps: int = 1,
        inner_optimizer: Literal["adam", "sgd"] = "adam",
        inner_batch_size: int | None = None,
        eval_inner_batch_size: int | None = None,
        **learner: Any,
    ) -> None:
        rule = INNER_OPTIMIZERS[inner_optimizer](inner_lr)
        super().__init__(network, update_rule=rule, inner_steps=inner_steps, first_order=True, **learner)
        at_least(
            1,
            tail_steps=tail_steps,
            inner_batch_size=inner_batch_size,
            eval_inner_batch_size=eval_inner_batch_size,
        )
        self.tail_steps, self.inner_batch_size = tail_steps, inner_batch_size
        self.eval_inner_batch_size = inner_batch_size if eval_inner_batch_size is None else eval_inner_batch_size
        refuse_idle(network, self.adapted_names)
        if self.objective.uses_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} uses adapted parameters, but FOML's meta-gradient "
                "is how far they move: use FOMAML, or an objective of query losses"
            )

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

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Adapt on the support set, evaluate on the query set, then step on the query set for the meta-gradient.

        Overrides the inherited method because the optimiser keeps its state from support to query set. The loss is the
        query loss before the tail. A term of value zero gives it the gradient theta_b - phi_b.
        """
        # nothing is differentiated through the steps; the last line alone connects the loss to theta
        constants = detached(meta)
        with nullcontext() if self.inner_autocast else without_autocast(support.y.device):
            adapted, state = self.start(constants, support)
            for _ in range(self.inner_steps):
                adapted, state = self.inner_step(constants, support, adapted, state)
            end, (_, moments) = adapted, state
            # on the whole query set, regardless of ``inner_batch_size``, with the moments of the steps before
            for _ in range(self.tail_steps):
                gradient, loss = self.inner_gradient(constants, query, end)
                end, moments = self.update(constants, gradient, moments, end, loss)  # line 7
        theta = scope(meta, "network")
        # zero in value, the identity in theta: the inner product below adds a gradient and no loss
        still = {name: theta[name] - theta[name].detach() for name in adapted}
        outcome = self.judge(constants, adapted, query)
        return outcome._replace(loss=outcome.loss + inner_product(combine(adapted, -1, end), still))  # line 8
