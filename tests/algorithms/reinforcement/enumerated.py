"""Episodes of all trajectories of a small decision process, with which expected meta-gradients are exact."""

import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit.episode import Episode, Labelled, Steps
from metalit.networks import CategoricalPolicy
from small_process import ACTIONS, F64, STATES, weighted_trajectories


def tabular_policy():
    """A policy whose weights, transposed, are the logits of each state."""
    return CategoricalPolicy(nn.Linear(STATES, ACTIONS, bias=False, dtype=F64))


def trajectories(tables, theta):
    """All trajectories of the policy with logits theta ``[S, A]``."""
    states, actions, advantages = weighted_trajectories(tables, theta)
    log_policy = theta.detach().log_softmax(dim=-1)
    drawn_from, mask = log_policy[states], torch.ones_like(states, dtype=torch.bool)
    log_probs = drawn_from.gather(-1, actions[..., None])[..., 0]
    steps = Steps(actions, advantages, drawn_from, log_probs, mask, credit=torch.zeros_like(advantages))
    return Labelled(nn.functional.one_hot(states, STATES).to(F64), steps)


def episode(tables, path):
    """One task whose policy had logits ``path``: before each inner step, and after the last."""
    parts = [trajectories(tables, theta) for theta in path]
    support = tree_map(lambda *leaves: torch.stack(leaves)[None], *parts[:-1])
    query = tree_map(lambda leaf: leaf[None], parts[-1])
    return Episode(support, query, torch.zeros(1, dtype=torch.int64))
