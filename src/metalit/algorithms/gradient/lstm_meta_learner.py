"""LSTM meta-learner (Ravi and Larochelle 2017, https://openreview.net/forum?id=rJY0-Kcll), algorithm 1.

     1  initialise Theta: the LSTM's weights and its first cell state c_0
     2  while not done
     3      sample tasks, each with a support set D and a query set D'                        (data module)
     4      for each task
     5          theta = c_0, the parameters of the network
     6          repeat inner_steps times
     7              g, L = stop_gradient(grad L(theta; D), L(theta; D))
     8              f, i = gates of each coordinate, from an LSTM over the g and L so far     (LSTMRule)
     9              theta <- f * theta - i * g
    10      Theta <- Theta - beta grad_Theta sum L(theta; D')                                 (engine, Lightning)

In evaluation, batch norm keeps running statistics per task: reset at line 5, accumulated on D at line 7, and used for
the queries.
"""

from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.func import grad_and_value

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import check
from metalit.functional.losses import task_loss
from metalit.tasks.episodic_batch_norm import AccumulateStatistics, FixedStatistics
from metalit.tasks.parameters import Params, detached
from metalit.update_rules.lstm_rule import LSTMRule


class LSTMMetaLearner(GradientBasedMetaLearner):
    """Learns the initialisation, and an LSTM that takes the inner steps.

    The method is first-order: gradients and losses enter the LSTM as constants, as in the paper.

    Differences from the paper: the gates receive the previous gates, as in the paper's equations; the authors' code
    passes their values before the sigmoid. The inner gradient is that of the mean loss; the authors' code divides it by
    the number of examples once more.

    Args:
        network: the network; its parameters are c_0, the meta-learned initialisation.
        hidden: width of the LSTM below the gates, >= 1. Each parameter of the network carries a state of twice this
            size, and more for the backward pass.
        forget_bias: bounds [low, high] of the forget gate's initial bias. High values keep the parameters at first.
        input_bias: bounds [low, high] of the input gate's initial bias. Low values give small steps at first.
        query_statistics: the statistics that normalise queries in evaluation. ``support``: running statistics of the
            support set, so that a prediction does not depend on other queries. ``batch``: those of the batch of
            queries. Training always uses the batch.
        statistics_momentum: weight of the support batch of each inner step in the running statistics, > 0 and <= 1.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a number outside its range.
    """

    def __init__(
        self,
        network: nn.Module,
        hidden: int = 20,
        forget_bias: tuple[float, float] = (4.0, 5.0),
        input_bias: tuple[float, float] = (-5.0, -4.0),
        query_statistics: Literal["support", "batch"] = "support",
        statistics_momentum: float = 0.9,
        **learner: Any,
    ) -> None:
        rule = LSTMRule(hidden, forget_bias, input_bias)
        super().__init__(network, update_rule=rule, first_order=True, **learner)
        check(
            "query_statistics",
            query_statistics,
            query_statistics in ("support", "batch"),
            "'support' or 'batch'",
        )
        check("statistics_momentum", statistics_momentum, 0 < statistics_momentum <= 1, "a number in (0, 1]")
        self.query_statistics, self.statistics_momentum = query_statistics, statistics_momentum

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return theta after one more inner step, with running statistics of the support set if they are in use."""
        # the running statistics travel with the adapted parameters, so that each step of the path has its own
        theta, running = self.split(adapted)
        if self.normalises_by_support():
            gradient, loss, running = self.accumulating_gradient(meta, support, theta, running)  # line 7
        else:
            gradient, loss = self.inner_gradient(meta, support, theta)  # line 7
        theta, state = self.update(meta, gradient, state, theta, loss)  # lines 8 and 9
        return theta | running, state

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return the network's outputs, normalised in evaluation by the statistics of the task's support set."""
        theta, running = self.split(adapted)
        if not self.normalises_by_support():
            return super().outputs(meta, theta, x)
        with FixedStatistics(running):
            return super().outputs(meta, theta, x)

    def accumulating_gradient(
        self, meta: Params, support: Labelled, theta: Params, running: Params
    ) -> tuple[Params, Tensor, Params]:
        """Return gradient and loss, detached, and the running statistics after the forward pass."""
        # not ``self.outputs``, which would normalise the support set by the running statistics
        outputs = partial(super().outputs, meta)

        def loss_and_statistics(theta: Params) -> tuple[Tensor, Params]:
            with AccumulateStatistics(running, self.statistics_momentum) as norms:
                loss = task_loss(outputs(theta, support.x), support.y, support.mask)
            return loss, norms.advanced

        gradient, (loss, running) = grad_and_value(loss_and_statistics, has_aux=True)(theta)
        return detached(gradient), loss.detach(), running

    def split(self, adapted: Params) -> tuple[Params, Params]:
        """Split adapted values into (parameters, running statistics)."""
        theta = {name: adapted[name] for name in self.adapted_names}
        return theta, {name: value for name, value in adapted.items() if name not in theta}

    def normalises_by_support(self) -> bool:
        """Whether queries are normalised by running statistics of the support set in the present mode."""
        return self.query_statistics == "support" and not self.training

    def batch_statistics(self) -> list[str]:
        """Return all batch norms where the support set's statistics normalise queries."""
        # evaluation collects the statistics of the support set, padding included
        known = {name for name, module in self.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
        return sorted(known) if self.normalises_by_support() else super().batch_statistics()

    def transductive(self) -> bool:
        """Whether queries are normalised by statistics of their batch, which ``query_statistics`` decides."""
        return self.query_statistics == "batch" and super().transductive()

    def setting(self) -> dict[str, Any]:
        """Add the statistics that normalise queries to the reported settings."""
        return {**super().setting(), "query_statistics": self.query_statistics}
