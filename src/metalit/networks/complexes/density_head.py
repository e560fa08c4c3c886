"""Affinity as the likelihood of the distances between residues and atoms (mixture density network)."""

import torch.nn.functional as F
from torch import Tensor, nn

from metalit.errors import at_least, check, positive
from metalit.functional.mixture_density import log_mixture_density
from metalit.networks.complexes.pairs import PairHead, Pairs, within

LEAST_SPREAD = 0.1  # Å; a density of a distance that was seen once could grow without bound


class DensityHead(PairHead):
    """A mixture of Gaussians over the distance of each pair; a complex scores the likelihood of its own distances.

        l_va = log sum_k pi_k N(d_va; mu_k, sigma_k);    pK = mean + spread (a sum_va m_va l_va / 100 + c)

    pi, mu and sigma are functions of the pair's features, m_va is 1 below the cutoff, and a and c are learned.

    Sources: the mixture is that of GenScore (Shen et al. 2023, https://doi.org/10.1039/D3SC02044D) and of DeepDock
    (Méndez-Lucio et al. 2021); there the score is not scaled to pK.

    Args:
        inputs: P, length of a pair's features, >= 1.
        gaussians: number of Gaussians, >= 1; 10 in GenScore.
        cutoff: Å, > 0; 7 in MetaScore.
        mean: pK of a score of 0; about 6.4 in PDBbind.
        spread: pK per unit of score, > 0; about 1.9 in PDBbind.

    Shape:
        pairs of n complexes to ``[n, 1]``, pK.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(
        self, inputs: int = 32, gaussians: int = 10, cutoff: float = 7.0, mean: float = 6.4, spread: float = 1.9
    ) -> None:
        super().__init__()
        at_least(1, inputs=inputs, gaussians=gaussians)
        check("mean", mean, abs(mean) < float("inf"), "a finite number")
        self.inputs, self.mean = inputs, mean
        self.cutoff, self.spread = positive("cutoff", cutoff), positive("spread", spread)
        self.mixture = nn.Linear(inputs, 3 * gaussians)
        self.scale = nn.Linear(1, 1)

    def log_densities(self, pairs: Pairs) -> Tensor:
        """Return l, ``[n, V, A]`` in nats per Å."""
        logits, means, spreads = self.mixture(pairs.features).chunk(3, dim=-1)
        # means spread over the range from the start, so that no two Gaussians begin equal
        means = F.softplus(means) + self.first_means(means)
        return log_mixture_density(pairs.distances, logits, means, F.softplus(spreads) + LEAST_SPREAD)

    def first_means(self, means: Tensor) -> Tensor:
        """Return ``[K]``, Å: evenly from 0 to the cutoff."""
        steps = means.new_ones(means.shape[-1]).cumsum(0) - 1
        return steps * (self.cutoff / means.shape[-1])

    def log_likelihood(self, pairs: Pairs) -> Tensor:
        """Return ``[n, 1]``: the mean of l over the pairs below the cutoff, in nats; 0 for a complex without any."""
        near = within(pairs, self.cutoff)
        total = (near * self.log_densities(pairs)).sum(dim=(-2, -1))
        return (total / near.sum(dim=(-2, -1)).clamp(min=1)).unsqueeze(-1)

    def forward(self, pairs: Pairs) -> Tensor:
        """Return affinities ``[n, 1]``, pK."""
        score = (within(pairs, self.cutoff) * self.log_densities(pairs)).sum(dim=(-2, -1)) / 100
        return self.mean + self.spread * self.scale(score.unsqueeze(-1))  # type: ignore[no-any-return]
