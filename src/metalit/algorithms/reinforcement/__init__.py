"""Meta-reinforcement learning."""

from metalit.algorithms.reinforcement.maml_policy_gradient import MAMLPolicyGradient

__all__ = ["MAMLPolicyGradient"]
