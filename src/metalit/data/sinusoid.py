"""Sinusoid regression (Finn et al. 2017, section 5.1): y = A sin(x - phi)."""

from typing import Any

import numpy as np
import torch

from metalit.data.module import EpisodicDataModule
from metalit.data.stream import Split, numbers, random_words, uniform
from metalit.episode import Episode, Labelled


class SinusoidStream:
    """A stream of sinusoids with amplitude A ~ U[0.1, 5], phase phi ~ U[0, pi], inputs x ~ U[-5, 5] and no noise."""

    def __init__(self, *, split: Split, seed: int, shots: int, queries: int) -> None:
        self.split, self.seed, self.shots, self.queries = split, seed, shots, queries

    def __call__(self, first: int, count: int) -> Episode:
        """Return episodes ``first .. first+count-1``; ``x`` and ``y`` are ``[count, shots or queries, 1]``."""
        # one word each for amplitude, phase and every input
        words = random_words(self.seed, self.split, first, count, 2 + self.shots + self.queries)
        amplitude = uniform(words[:, :1], 0.1, 5.0)
        phase = uniform(words[:, 1:2], 0.0, np.pi)
        inputs = uniform(words[:, 2:], -5.0, 5.0)
        targets = amplitude * np.sin(inputs - phase)
        x, y = (torch.from_numpy(a).to(torch.get_default_dtype()).unsqueeze(-1) for a in (inputs, targets))
        k = self.shots
        return Episode(Labelled(x[:, :k], y[:, :k]), Labelled(x[:, k:], y[:, k:]), numbers(first, count))


class Sinusoid(EpisodicDataModule):
    """Sinusoid regression. Every episode is a new sinusoid; the splits are three streams of the same distribution.

    Predicting 0 everywhere has a mean squared error of E[A^2]/2 = 4.25.

    Args:
        shots: support points per task.
        queries: query points per task, in validation and test.
        **episodes: the settings of ``EpisodicDataModule``.
    """

    reads_ahead = True

    def __init__(self, shots: int = 10, queries: int = 100, **episodes: Any) -> None:
        super().__init__(shots=shots, queries=queries, **episodes)

    def make_stream(self, split: Split) -> SinusoidStream:
        """Return the stream of sinusoids of a split."""
        train = split == "train"
        return SinusoidStream(
            split=split,
            seed=self.seed,
            shots=self.train_shots if train else self.shots,
            queries=self.train_queries if train else self.queries,
        )
