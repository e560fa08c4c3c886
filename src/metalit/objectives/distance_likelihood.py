"""The query loss plus the negative log-likelihood of distances, of networks of protein-ligand complexes."""

import torch
from torch import Tensor

from metalit.errors import not_negative
from metalit.networks.complexes import DistancesOf
from metalit.objectives.base import LearnedTask, Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params


class DistanceLikelihood(Objective):
    """The mean over tasks of L_Q(theta') - weight * log p(distances of the query | theta').

    A mixture density network is trained to find the distances of real complexes likely. Its score is then the
    affinity, which L_Q compares with the measured one: GenScore's loss has the same two parts (Shen et al. 2023,
    https://doi.org/10.1039/D3SC02044D), with a correlation in place of the squared error. The network must be a
    ``ProteinLigandNetwork`` with a ``DensityHead``.

    Args:
        weight: of the mean log-likelihood per pair in nats, >= 0; with 0 the objective is ``QueryLoss``.
    """

    uses_adaptation = True

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = not_negative("weight", weight)

    def measure(self, task: LearnedTask) -> Params:
        """Return the negative log-likelihood of the query's distances, under the adapted parameters."""
        found = task.predict(task.path[-1], DistancesOf(task.query.x))  # [Q, 1]
        if task.query.mask is not None:
            return {"distance_nll": -(found[:, 0] * task.query.mask).sum() / task.query.mask.sum()}
        return {"distance_nll": -found.mean()}

    def __call__(self, outcome: Outcome) -> Tensor:
        """Return the mean loss over tasks."""
        return torch.mean(outcome.loss + self.weight * outcome.measured["distance_nll"])
