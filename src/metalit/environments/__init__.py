"""Environments of reinforcement learning, whose parameters distinguish the tasks.

The rule of this room: it sees the parameters of tasks, states and actions, but neither policies nor how they learn.
"""

from metalit.environments.bandit import Bandit
from metalit.environments.base import ActionSpace, Environment
from metalit.environments.cart_pole import CartPole
from metalit.environments.navigation import Navigation
from metalit.environments.pendulum import Pendulum
from metalit.environments.tabular import TabularMDP

__all__ = ["ActionSpace", "Bandit", "CartPole", "Environment", "Navigation", "Pendulum", "TabularMDP"]
