"""Bayesian MAML (Yoon et al. 2018, https://arxiv.org/abs/1806.03836), algorithms 1 and 2.

    1  initialise M particles Theta = {theta_m}
    2  while not done
    3      sample tasks, each with a support set D and a query set D'                           (data module)
    4      for each task
    5          Theta^n = Theta after inner_steps steps of Stein variational gradient descent on D:
                   theta_m <- theta_m + alpha (1/M) sum_j [k(j, m) grad_j log p(theta_j | D) + grad_j k(j, m)]
    6          Theta^(n+s) = Theta^n after leader_steps more of them on D and D' together
    7      minimise  sum_m |theta_m^n - stop_gradient(theta_m^(n+s))|^2                         (ChaserLoss)

The mixture of the particles of line 5 predicts.
"""

from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.probabilistic.base import ParticleMetaLearner
from metalit.episode import Labelled
from metalit.errors import at_least, not_negative, positive
from metalit.functional.stein import stein_direction
from metalit.objectives import ChaserLoss, Objective
from metalit.tasks.parameters import Params, select
from metalit.update_rules import SGD


class BayesianMAML(ParticleMetaLearner):
    """Adapts M particles that keep their distance, by Stein variational gradient descent.

    Differences from the paper: the prior is flat and the likelihood's scale a setting, ``temperature``; the authors'
    code gives weights and noise priors of their own.

    Args:
        network: the network. Those of its parameters that adapt are replaced by stacks ``[particles, *shape]``: the
            first is the network as given, the others are drawn anew by the ``reset_parameters`` of its layers. All
            particles share the rest, e.g. the body if ``adapted`` is ``["head.*"]``.
        inner_lr: alpha, for a loss that is a mean over the support set; > 0. A particle far from all others moves by
            1/M of it.
        particles: M, >= 1. A single one is MAML with another meta-loss.
        temperature: tau of the posterior exp(-loss / tau), the weight of the particles' repulsion; >= 0. For S support
            examples with a noise variance s^2 it is 2 s^2 / S in regression, and 1 / S in classification.
        clip_norm: a longer step than ``inner_lr * clip_norm`` is shortened to it, for each particle by itself; > 0.
            Not if not given. The chaser's distance does not keep steps stable, as the loss after them does in MAML.
        objective: the meta-loss; ``ChaserLoss`` with one step of the leader if not given.
        **learner: the settings of ``ParticleMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self,
        network: nn.Module,
        inner_lr: float = 0.01,
        particles: int = 5,
        temperature: float = 0.01,
        clip_norm: float | None = None,
        objective: Objective | None = None,
        **learner: Any,
    ) -> None:
        objective = ChaserLoss() if objective is None else objective
        super().__init__(network, update_rule=SGD(inner_lr), objective=objective, **learner)
        at_least(1, particles=particles)
        self.temperature = not_negative("temperature", temperature)
        self.clip_norm = None if clip_norm is None else positive("clip_norm", clip_norm)
        multiply(network, self.adapted_names, particles)  # line 1

    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return the particles after one more step (line 5)."""
        gradients, loss = self.gradients(meta, support, adapted)
        direction = stein_direction(in_a_row(adapted), in_a_row(gradients), self.temperature)
        if self.clip_norm is not None:
            direction = clipped(direction, self.clip_norm)
        parts = torch.split(direction, [value[0].numel() for value in adapted.values()], dim=1)
        shaped = {name: part.reshape(value.shape) for (name, value), part in zip(adapted.items(), parts, strict=True)}
        return self.update(meta, shaped, state, adapted, loss)


def in_a_row(stack: Params) -> Tensor:
    """Return every particle as one vector, ``[M, P]``."""
    return torch.cat([value.flatten(1) for value in stack.values()], dim=1)


def clipped(rows: Tensor, norm: float) -> Tensor:
    """Return ``rows [M, P]``, those that are longer than ``norm`` shortened to it.

    As ``torch.renorm`` does, which vmap takes one task at a time.
    """
    squares = rows.square().sum(dim=1, keepdim=True)
    return rows * (norm**2 / squares.clamp_min(norm**2)).sqrt()


def multiply(network: nn.Module, names: list[str], particles: int) -> None:
    """Replace parameters of a network by stacks of differently initialised ones, itself the first."""
    copies = [network, *(deepcopy(network) for _ in range(particles - 1))]
    for copy in copies[1:]:
        for module in copy.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    stacks = {
        name: torch.stack([copy.get_parameter(name).detach() for copy in copies]) for name in select(network, names)
    }
    for name, stack in stacks.items():
        owner, _, leaf = name.rpartition(".")
        trained = network.get_parameter(name).requires_grad
        setattr(network.get_submodule(owner), leaf, nn.Parameter(stack, requires_grad=trained))
