"""Meta-learning algorithms, one final class a file; each family exports its own."""

from metalit.algorithms import generative, gradient, memory, metric, probabilistic
from metalit.algorithms.base import MetaLearner
from metalit.algorithms.generative import *  # noqa: F403
from metalit.algorithms.gradient import *  # noqa: F403
from metalit.algorithms.memory import *  # noqa: F403
from metalit.algorithms.metric import *  # noqa: F403
from metalit.algorithms.probabilistic import *  # noqa: F403

__all__ = ["MetaLearner"]
__all__ += generative.__all__
__all__ += gradient.__all__
__all__ += memory.__all__
__all__ += metric.__all__
__all__ += probabilistic.__all__
