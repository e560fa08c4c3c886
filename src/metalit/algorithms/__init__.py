"""Meta-learning algorithms, one final class a file; each family exports its own."""

from metalit.algorithms import gradient, metric
from metalit.algorithms.base import MetaLearner
from metalit.algorithms.gradient import *  # noqa: F403
from metalit.algorithms.metric import *  # noqa: F403

__all__ = ["MetaLearner"]
__all__ += gradient.__all__
__all__ += metric.__all__
