"""Environments of reinforcement learning, whose parameters distinguish the tasks.

The rule of this room: it sees the parameters of tasks, states and actions, but neither policies nor how they learn.
"""

from metalit.environments.bandit import Bandit
from metalit.environments.base import ActionSpace, Environment
from metalit.environments.cart_pole import CartPole
from metalit.environments.gymnasium_environment import GymnasiumEnvironment
from metalit.environments.live import LiveEnvironment
from metalit.environments.locomotion import AntDirection, AntVelocity, HalfCheetahDirection, HalfCheetahVelocity
from metalit.environments.meta_world import MetaWorld
from metalit.environments.navigation import Navigation
from metalit.environments.pendulum import Pendulum
from metalit.environments.tabular import TabularMDP

__all__ = [
    "ActionSpace",
    "AntDirection",
    "AntVelocity",
    "Bandit",
    "CartPole",
    "Environment",
    "GymnasiumEnvironment",
    "HalfCheetahDirection",
    "HalfCheetahVelocity",
    "LiveEnvironment",
    "MetaWorld",
    "Navigation",
    "Pendulum",
    "TabularMDP",
]
