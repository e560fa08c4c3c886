"""Affinity as a regression on pooled interactions."""

import torch
from torch import Tensor, nn

from metalit.errors import at_least, check, positive
from metalit.networks.complexes.pairs import PairHead, Pairs, bumps, within

PAIRS = 100.0  # close pairs of a complex, in order of magnitude: keeps sums over them near 1


class AffinityHead(PairHead):
    """Sums over close pairs what their features say, weighted by a learned function of the distance.

        z = sum_va m_va f_va * W b(d_va) / 100;    pK = mean + spread (w' ReLU(U z + u) + c)

    f are the features of a pair, b Gaussians of its distance, m_va is 1 below the cutoff, and ``*`` is elementwise.

    Args:
        inputs: P, length of a pair's features, >= 1.
        width: length of the hidden layer, >= 1.
        cutoff: Å, > 0.
        centres: number of Gaussians of the distance, >= 2.
        mean: pK of a score of 0; about 6.4 in PDBbind.
        spread: pK per unit of score, > 0; about 1.9 in PDBbind.

    Shape:
        pairs of n complexes to ``[n, 1]``, pK.

    Raises:
        SettingError: a number is out of range.
    """

    def __init__(
        self,
        inputs: int = 32,
        width: int = 32,
        cutoff: float = 10.0,
        centres: int = 8,
        mean: float = 6.4,
        spread: float = 1.9,
    ) -> None:
        super().__init__()
        at_least(1, inputs=inputs, width=width)
        at_least(2, centres=centres)
        check("mean", mean, abs(mean) < float("inf"), "a finite number")
        self.inputs, self.centres, self.mean = inputs, centres, mean
        self.cutoff, self.spread = positive("cutoff", cutoff), positive("spread", spread)
        self.filter = nn.Linear(centres, inputs)
        self.hidden = nn.Linear(inputs, width)
        self.out = nn.Linear(width, 1)

    def forward(self, pairs: Pairs) -> Tensor:
        """Return affinities ``[n, 1]``, pK."""
        near = within(pairs, self.cutoff).unsqueeze(-1) * bumps(pairs.distances, self.cutoff, self.centres)
        # sum over pairs first, for each centre and feature: W is linear, and this needs no tensor of pairs behind it
        sums = torch.einsum("nvak,nvap->nkp", near, pairs.features) / PAIRS
        counted = torch.einsum("nvap,nva->np", pairs.features, within(pairs, self.cutoff)) / PAIRS
        interactions = torch.einsum("nkp,pk->np", sums, self.filter.weight) + counted * self.filter.bias
        return self.mean + self.spread * self.out(self.hidden(interactions).relu())  # type: ignore[no-any-return]
