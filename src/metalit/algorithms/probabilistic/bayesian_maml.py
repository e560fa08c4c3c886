"""Bayesian MAML (Yoon et al. 2018, https://arxiv.org/abs/1806.03836), algorithms 1 and 2.

    1  initialise M particles Theta = {theta_m}
    2  while not done
    3      sample tasks, each with a support set D and a query set D'                           (data module)
    4      for each task
    5          Theta^n = Theta after inner_steps steps of Stein variational gradient descent on D:
                   theta_m <- theta_m + alpha (1/M) sum_j [k(j, m) grad_j log p(theta_j | D) + grad_j k(j, m)]
    6          Theta^(n+s) = Theta^n after leader_steps more of them on D and D' together
    7      minimise  sum_m |theta_m^n - stop_gradient(theta_m^(n+s))|^2                         (ChaserLoss)

Predictions are those of the mixture of the particles of line 5.
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
    """Adapts M mutually repelling particles by Stein variational gradient descent.

    Differences from the paper: the prior is flat, and the scale of the likelihood is a setting, ``temperature``. The
    authors' code has priors for weights and noise.

    Args:
        network: the network. Its parameters that adapt are replaced by stacks ``[particles, *shape]``: the first
            particle is the network as given, the others are initialised by the ``reset_parameters`` of its layers. All
            particles share the other parameters, e.g. the body if ``adapted`` is ``["head.*"]``.
        inner_lr: alpha, the inner learning rate for a loss that is a mean over the support set; > 0. For a particle
            far from all others the effective rate is alpha / M.
        particles: M, >= 1. With a single particle it is MAML with another meta-loss.
        temperature: tau of the posterior exp(-loss / tau), the weight of the repulsion between particles; >= 0. For S
            support examples it is 2 s^2 / S in regression, with noise variance s^2, and 1 / S in classification.
        clip_norm: shorten each particle's inner step to at most ``inner_lr * clip_norm``; > 0. Default: no clipping.
            Unlike MAML's loss after the inner steps, the chaser's distance does not keep the steps stable.
        objective: the meta-loss; default: ``ChaserLoss`` with one step of the leader.
        **learner: the settings of ``ParticleMetaLearner``, ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        SettingError: a number outside its range.
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
        """Return the particles after one more inner step (line 5)."""
        # the kernel compares particles as whole vectors, so tensors are concatenated and split again
        gradients, loss = self.gradients(meta, support, adapted)
        direction = stein_direction(in_a_row(adapted), in_a_row(gradients), self.temperature)
        if self.clip_norm is not None:
            direction = clipped(direction, self.clip_norm)
        parts = torch.split(direction, [value[0].numel() for value in adapted.values()], dim=1)
        shaped = {name: part.reshape(value.shape) for (name, value), part in zip(adapted.items(), parts, strict=True)}
        return self.update(meta, shaped, state, adapted, loss)


def in_a_row(stack: Params) -> Tensor:
    """Return all parameters of each particle as one vector, ``[M, P]``."""
    return torch.cat([value.flatten(1) for value in stack.values()], dim=1)


def clipped(rows: Tensor, norm: float) -> Tensor:
    """Return ``rows [M, P]``, with rows longer than ``norm`` shortened to it.

    The same as ``torch.renorm``, which ``vmap`` would run one task at a time.
    """
    # the clamp keeps shorter rows as they are, and the gradient at a row of zeros finite
    squares = rows.square().sum(dim=1, keepdim=True)
    return rows * (norm**2 / squares.clamp_min(norm**2)).sqrt()


def multiply(network: nn.Module, names: list[str], particles: int) -> None:
    """Replace parameters of a network, in place, by stacks of independently initialised copies, the original first."""
    copies = [network, *(deepcopy(network) for _ in range(particles - 1))]
    for copy in copies[1:]:
        for module in copy.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    stacks = {
        name: torch.stack([copy.get_parameter(name).detach() for copy in copies]) for name in select(network, names)
    }
    # the network's own parameters become stacks, so a checkpoint fits one number of particles only
    for name, stack in stacks.items():
        owner, _, leaf = name.rpartition(".")
        trained = network.get_parameter(name).requires_grad
        setattr(network.get_submodule(owner), leaf, nn.Parameter(stack, requires_grad=trained))
