"""Meta-reinforcement learning."""

from metalit.algorithms.reinforcement.cavia_policy_gradient import CAVIAPolicyGradient
from metalit.algorithms.reinforcement.maml_policy_gradient import MAMLPolicyGradient
from metalit.algorithms.reinforcement.promp import ProMP

__all__ = ["CAVIAPolicyGradient", "MAMLPolicyGradient", "ProMP"]
