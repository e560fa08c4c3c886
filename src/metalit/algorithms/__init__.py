"""Meta-learning algorithms.

The rule of this room: an algorithm is one final class in a file of its own, which describes a single task, as its paper
does. Code shared within a family stays in the family's folder, beginning with its ``base.py``; code shared by all
families stands beside this file.
"""

from metalit.algorithms import generative, gradient, memory, metric, probabilistic, reinforcement
from metalit.algorithms.generative import *  # noqa: F403
from metalit.algorithms.gradient import *  # noqa: F403
from metalit.algorithms.memory import *  # noqa: F403
from metalit.algorithms.meta_learner import MetaLearner
from metalit.algorithms.metric import *  # noqa: F403
from metalit.algorithms.probabilistic import *  # noqa: F403
from metalit.algorithms.reinforcement import *  # noqa: F403

__all__ = ["MetaLearner"]
__all__ += generative.__all__
__all__ += gradient.__all__
__all__ += memory.__all__
__all__ += metric.__all__
__all__ += probabilistic.__all__
__all__ += reinforcement.__all__
