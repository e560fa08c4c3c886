"""Strategies for Bernoulli bandits that need no training.

Legend: B tasks, n trials of each, A arms.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Beta

Strategy = Callable[[Tensor, Tensor], Tensor]  # pulls and rewards of each arm so far, [B, n, A], to arms, [B, n]


def at_random(pulls: Tensor, _: Tensor) -> Tensor:
    """Pull each arm equally often."""
    return torch.randint(pulls.shape[-1], pulls.shape[:-1])


def thompson_sampling(pulls: Tensor, rewards: Tensor) -> Tensor:
    """Pull the best arm of a draw from the posterior, with a uniform prior (Thompson 1933)."""
    return Beta(1 + rewards, 1 + pulls - rewards).sample().argmax(dim=-1)


def ucb1(pulls: Tensor, rewards: Tensor) -> Tensor:
    """Pull the arm with the highest upper confidence bound, each once first (Auer, Cesa-Bianchi and Fischer 2002)."""
    time = pulls.sum(dim=-1, keepdim=True).clamp(min=1)
    bound = rewards / pulls + (2 * time.log() / pulls).sqrt()
    return torch.where(pulls == 0, torch.inf, bound).argmax(dim=-1)


def regret(strategy: Strategy, arms: Tensor, trials: int, pulls: int, seed: int = 0) -> Tensor:
    """Return the regret of a strategy in each task, the mean of its trials, ``[B]``.

    Args:
        strategy: which arms to pull.
        arms: the tasks' probabilities, ``[B, A]``.
        trials: n.
        pulls: of a trial.
        seed: of the random numbers.
    """
    done, won = (torch.zeros(len(arms), trials, arms.shape[1]) for _ in range(2))
    total = torch.zeros(len(arms), trials)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(pulls):
            chosen = strategy(done, won)
            paid = torch.bernoulli(arms.gather(1, chosen))
            done.scatter_add_(2, chosen[..., None], torch.ones_like(paid)[..., None])
            won.scatter_add_(2, chosen[..., None], paid[..., None])
            total += regret_of(arms, chosen)
    return total.mean(dim=1)


def regret_of(arms: Tensor, chosen: Tensor) -> Tensor:
    """Return the regret of each pull, of arms ``[B, A]`` by chosen arms ``[B, n]``."""
    return arms.max(dim=1, keepdim=True).values - arms.gather(1, chosen)
