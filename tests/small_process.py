"""A decision process so small that all its trajectories can be enumerated: exact expectations, in float64."""

from itertools import product

import torch

from metalit.environments import TabularMDP
from metalit.environments.tabular import expected_return

F64 = torch.float64
STATES, ACTIONS, HORIZON = 2, 2, 3


def random_tables():
    """The tables of one task."""
    torch.manual_seed(0)
    environment = TabularMDP(STATES, ACTIONS, HORIZON)
    return environment.parameters(torch.rand(1, environment.numbers_per_task, dtype=F64))


def value(tables, theta, horizon=HORIZON):
    """The expected return of the policy with logits theta ``[S, A]``."""
    return expected_return(tables, theta.softmax(dim=-1)[None], horizon)[0]


def everything(tables, theta, horizon=HORIZON):
    """All trajectories from state 0: states and actions ``[n, H]``, rewards and probabilities of whole paths."""
    steps = list(product(range(ACTIONS), range(STATES)))
    states, actions, rewards, probabilities = [], [], [], []
    policy = theta.softmax(dim=-1)
    for path in product(steps, repeat=horizon):
        at, seen, taken, paid, p = 0, [], [], [], torch.ones((), dtype=F64)
        for action, following in path:
            seen.append(at), taken.append(action), paid.append(tables.rewards[0, at, action])
            p = p * policy[at, action] * tables.transitions[0, at, action, following]
            at = following
        states.append(seen), actions.append(taken), rewards.append(torch.stack(paid)), probabilities.append(p)
    return torch.tensor(states), torch.tensor(actions), torch.stack(rewards), torch.stack(probabilities).detach()


def exact_advantages(tables, theta, states, actions, horizon=HORIZON):
    """Q - V at each time step, for the policy theta held constant."""
    policy, v = theta.detach().softmax(dim=-1), torch.zeros(STATES, dtype=F64)
    by_time = []
    for _ in range(horizon):
        q = tables.rewards[0] + torch.einsum("sat,t->sa", tables.transitions[0], v)
        v = (policy * q).sum(dim=-1)
        by_time.append(q - v[:, None])
    table = torch.stack(by_time[::-1])  # [H, S, A]
    return table[torch.arange(horizon), states, actions]


def weighted_trajectories(tables, theta, horizon=HORIZON):
    """All states and actions of the policy theta, and the advantages that make a mean over them the expectation."""
    states, actions, _, probabilities = everything(tables, theta.detach(), horizon)
    advantages = exact_advantages(tables, theta, states, actions, horizon)
    # a policy gradient is a mean over n H steps and linear in the advantages: weights of trajectories go there
    return states, actions, advantages * probabilities[:, None] * len(states) * horizon
