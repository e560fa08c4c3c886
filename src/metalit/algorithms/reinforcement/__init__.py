"""Meta-reinforcement learning."""

from metalit.algorithms.reinforcement.cavia_policy_gradient import CAVIAPolicyGradient
from metalit.algorithms.reinforcement.maml_policy_gradient import MAMLPolicyGradient
from metalit.algorithms.reinforcement.meta_sgd_policy_gradient import MetaSGDPolicyGradient
from metalit.algorithms.reinforcement.promp import ProMP
from metalit.algorithms.reinforcement.reptile_policy_gradient import ReptilePolicyGradient
from metalit.algorithms.reinforcement.rl2 import RL2

__all__ = [
    "RL2",
    "CAVIAPolicyGradient",
    "MAMLPolicyGradient",
    "MetaSGDPolicyGradient",
    "ProMP",
    "ReptilePolicyGradient",
]
