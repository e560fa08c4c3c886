"""Meta-reinforcement learning."""

from metalit.algorithms.reinforcement.cavia_policy_gradient import CAVIAPolicyGradient
from metalit.algorithms.reinforcement.maml_policy_gradient import MAMLPolicyGradient
from metalit.algorithms.reinforcement.promp import ProMP
from metalit.algorithms.reinforcement.rl2 import RL2

__all__ = ["RL2", "CAVIAPolicyGradient", "MAMLPolicyGradient", "ProMP"]
