"""Pairs of a residue and an atom: what a head of a protein-ligand network receives."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Pairs(NamedTuple):
    """The pairs of a residue and an atom in n complexes.

    Attributes:
        features: ``[n, V, A, P]``.
        distances: ``[n, V, A]``, Å.
        mask: ``[n, V, A]`` bool, True where both exist.
    """

    features: Tensor
    distances: Tensor
    mask: Tensor


class PairHead(nn.Module, ABC):
    """From pairs to affinities.

    Attributes:
        inputs: P, length of a pair's features.
    """

    inputs: int

    @abstractmethod
    def forward(self, pairs: Pairs) -> Tensor:
        """Return affinities ``[n, 1]``."""


def within(pairs: Pairs, cutoff: float) -> Tensor:
    """Return ``[n, V, A]``: 1 for pairs that exist and are closer than ``cutoff`` Å, else 0, in the features' dtype."""
    return (pairs.mask & (pairs.distances < cutoff)).to(pairs.features.dtype)


def bumps(distances: Tensor, cutoff: float, count: int) -> Tensor:
    """Return ``[..., count]``: Gaussians of the distances, with centres from 0 to ``cutoff`` Å as far apart as wide."""
    centres = torch.linspace(0, cutoff, count, dtype=distances.dtype, device=distances.device)
    return torch.exp(-0.5 * ((distances.unsqueeze(-1) - centres) * ((count - 1) / cutoff)).square())
