"""The table of policy learners: one row for each that is exported.

They gather their own examples, so the battery over ``cases.py`` is not for them;
algorithms/reinforcement/test_battery.py runs over this table.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from metalit.algorithms import (
    RL2,
    CAVIAPolicyGradient,
    MAMLPolicyGradient,
    MetaSGDPolicyGradient,
    ProMP,
    ReptilePolicyGradient,
)
from metalit.algorithms.reinforcement.base import PolicyLearner
from metalit.data import EnvironmentTasks
from metalit.environments import Bandit, Environment, Navigation
from metalit.networks import MLP, CategoricalPolicy, ContextMLP, GaussianPolicy, RecurrentPolicy

SMALL = {
    "shots": 3,
    "queries": 4,
    "tasks_per_batch": 4,
    "eval_tasks_per_batch": 3,
    "episodes_per_epoch": 8,
    "val_episodes": 5,
    "test_episodes": 5,
}


@dataclass(frozen=True)
class PolicyCase:
    """One policy learner.

    Attributes:
        algorithm: the class.
        network: makes its policy.
        environment: makes the environment that it acts in.
        settings: constructor arguments.
        stages: of evaluation, the number of returns of a task.
        trust_region: whether its outer step may be a trust region step.
        second_order: whether derivatives through the inner steps are a choice.
        parts: whether some parameters of its network may adapt while the others are trained.
    """

    algorithm: type[PolicyLearner]
    network: Callable[[], nn.Module]
    environment: Callable[[], Environment]
    settings: dict[str, Any] = field(default_factory=dict)
    stages: int = 4
    trust_region: bool = True
    second_order: bool = True
    parts: bool = True

    def make(self, **settings: Any) -> PolicyLearner:
        """Return a learner."""
        return self.algorithm(self.network(), **(self.settings | settings))

    def data(self, **settings: Any) -> EnvironmentTasks:
        """Return its tasks."""
        return EnvironmentTasks(self.environment(), **(SMALL | settings))


def gaussian() -> nn.Module:
    """Return a policy for navigation."""
    return GaussianPolicy(MLP(inputs=2, hidden=(8, 8), outputs=2))


def contextual() -> nn.Module:
    """Return a policy for navigation with context parameters."""
    return GaussianPolicy(ContextMLP(inputs=2, hidden=(8, 8), outputs=2, context_size=3))


def recurrent() -> nn.Module:
    """Return a policy for bandits with a memory."""
    return RecurrentPolicy(CategoricalPolicy(nn.Linear(6, 3)), inputs=6, hidden=6)


def navigation() -> Environment:
    """Return a navigation in which some trajectories end early."""
    return Navigation(horizon=6, goal_radius=0.2)


STEPS = {"inner_lr": 0.5, "inner_steps": 2, "eval_inner_steps": 3}
POLICIES = {
    "MAMLPolicyGradient": PolicyCase(MAMLPolicyGradient, gaussian, navigation, STEPS),
    "MetaSGDPolicyGradient": PolicyCase(MetaSGDPolicyGradient, gaussian, navigation, STEPS),
    "ReptilePolicyGradient": PolicyCase(
        ReptilePolicyGradient, gaussian, navigation, STEPS, trust_region=False, second_order=False, parts=False
    ),
    "ProMP": PolicyCase(ProMP, gaussian, navigation, STEPS | {"divergence": 0.1, "epochs": 3}, trust_region=False),
    "CAVIAPolicyGradient": PolicyCase(CAVIAPolicyGradient, contextual, navigation, STEPS, parts=False),
    "RL2": PolicyCase(
        RL2,
        recurrent,
        lambda: Bandit(arms=3, horizon=5),
        {"episodes": 2},
        stages=2,
        second_order=False,
        parts=False,
    ),
}
