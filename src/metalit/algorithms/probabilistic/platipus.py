"""Probabilistic MAML, PLATIPUS (Finn, Xu and Levine 2018, https://arxiv.org/abs/1806.02817), algorithms 1 and 2.

     1  initialise mu, sigma, v_q, gamma_q, gamma_p
     2  while not done
     3      sample tasks, each with a support set D and a query set D'                           (data module)
     4      for each task
     5          q = N(mu - gamma_q grad L(mu; D'), v_q)
     6          p = N(mu - gamma_p grad L(mu; D), sigma^2)
     7          draw theta ~ q
     8          repeat inner_steps times:  theta <- theta - alpha grad L(theta; D)
     9      minimise  L(theta; D') + kl_weight KL(q || p)                                        (engine, Lightning)

    10  to learn a new task:  draw theta ~ p several times, and apply line 8 to each; the mixture predicts

Query labels enter the distribution of theta in line 5 only, which is taken in training only.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.probabilistic.base import ParticleMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError, not_negative, positive
from metalit.functional.predictive import gaussian_kl
from metalit.tasks.parameters import Params, scope, select
from metalit.tasks.task_context import normal_like
from metalit.update_rules import SGD


class PLATIPUS(ParticleMetaLearner):
    """Learns a distribution of initialisations, from which the parameters of a task are drawn and then adapted.

    Differences from the paper: a mean loss replaces the negative log-likelihood, and ``kl_weight`` accounts for its
    scale. The paper has no such weight; without it the KL divergence, a sum over all parameters, dominates the loss.

    Args:
        network: the network; its parameters are mu.
        inner_lr: alpha, the inner learning rate; > 0.
        samples: number of parameter vectors per task in evaluation; >= 1.
        train_samples: the same in training; >= 1.
        initial_std: initial sigma and square root of v_q, for every parameter; > 0.
        initial_gamma: initial gamma_p and gamma_q; > 0.
        kl_weight: weight of the KL divergence, which is summed over the parameters that adapt; >= 0.
        **learner: the settings of ``ParticleMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        SettingError: a number outside its range.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        samples: int = 10,
        train_samples: int = 1,
        initial_std: float = 0.01,
        initial_gamma: float = 0.01,
        kl_weight: float = 1e-4,
        **learner: Any,
    ) -> None:
        super().__init__(network, update_rule=SGD(inner_lr), **learner)
        self.samples = int(positive("samples", samples))
        self.train_samples = int(positive("train_samples", train_samples))
        self.kl_weight = not_negative("kl_weight", kl_weight)
        log_std = math.log(positive("initial_std", initial_std))
        log_gamma = math.log(positive("initial_gamma", initial_gamma))
        self.shapes = {name: value.shape for name, value in select(network, self.adapted).items()}
        size = sum(shape.numel() for shape in self.shapes.values())
        # log space keeps standard deviations and rates positive
        self.prior_log_std = nn.Parameter(torch.full((size,), log_std))
        self.posterior_log_std = nn.Parameter(torch.full((size,), log_std))
        self.prior_log_gamma = nn.Parameter(torch.tensor(log_gamma))
        self.posterior_log_gamma = nn.Parameter(torch.tensor(log_gamma))

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Draw from the prior p, which depends on the support set only (line 10)."""
        return self.draw(*self.gaussian(meta, support, "prior"), self.samples), ()

    def start_in_training(self, meta: Params, support: Labelled, query: Labelled) -> tuple[Params, Any]:
        """Draw from q, which depends on the query set, and return ``kl`` with the draws; in evaluation draw from p."""
        # query labels must not reach an evaluation, even if ``task`` is called in evaluation mode
        if not self.training:
            return self.start(meta, support)
        posterior = self.gaussian(meta, query, "posterior")  # line 5
        prior = self.gaussian(meta, support, "prior")  # line 6
        return {**self.draw(*posterior, self.train_samples), "kl": gaussian_kl(*posterior, *prior)}, ()

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return the parameter vectors after one more inner step of each (line 8)."""
        gradients, loss = self.gradients(meta, support, adapted)
        moving = {name: adapted[name] for name in gradients}
        moved, state = self.update(meta, gradients, state, moving, loss)
        return {**adapted, **moved}, state

    def penalties(self, meta: Params, support: Labelled, path: list[Params]) -> Params:
        """Return the KL divergence of line 9, weighted; nothing in evaluation, where ``start`` draws from p."""
        return {"kl": self.kl_weight * path[0]["kl"]} if "kl" in path[0] else {}

    def gaussian(self, meta: Params, examples: Labelled, which: str) -> tuple[Tensor, Tensor]:
        """Return mean and log std of ``prior`` or ``posterior`` over all parameters as one vector, ``[P]`` each."""
        if self.adapted_names != list(self.shapes):
            raise UserError(
                "parameters were frozen after PLATIPUS was made, which has a variance for each: freeze them before"
            )
        network = scope(meta, "network")
        # ``gradients`` expects a leading axis M, here 1
        mu = {name: network[name].unsqueeze(0) for name in self.shapes}
        gradients, _ = self.gradients(meta, examples, mu)
        mean, slope = (torch.cat([part[name].flatten() for name in mu]) for part in (mu, gradients))
        return mean - meta[f"{which}_log_gamma"].exp() * slope, meta[f"{which}_log_std"]

    def draw(self, mean: Tensor, log_std: Tensor, count: int) -> Params:
        """Draw ``count`` samples of every parameter, ``[count, *shape]`` by name (line 7)."""
        means = mean.expand(count, -1)
        drawn = means + log_std.exp() * normal_like(means)
        parts = torch.split(drawn, [shape.numel() for shape in self.shapes.values()], dim=1)
        return {
            name: part.reshape(count, *shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)
        }
