"""Conditional neural processes (Garnelo et al. 2018, https://arxiv.org/abs/1807.01613), section 2.

1  sample tasks, each a set of points O = {(x_i, y_i)}                                      (data module)
2  for each task
3      draw a number of points, at random, and that many of O, the context
4      r_i = h(x_i, y_i) for each point of the context;  r = mean of r_i
5      at each point x of O:  mean, std = g(x, r),  std = 0.1 + 0.9 softplus
6      minimise  - mean over O of log N(y | mean, std^2)                                    (engine, Lightning)
"""

from torch import Tensor
from torch.func import functional_call

from metalit.algorithms.probabilistic.neural_process import Context, NeuralProcess
from metalit.functional.parameters import Params, scope


class ConditionalNeuralProcess(NeuralProcess):
    """Predicts a Gaussian at each point, from the mean code of the support points.

    The network is ``ConditionalProcess``, or another module of the same shape.
    """

    def predict(self, meta: Params, context: Context, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log std of the one Gaussian, M = 1 (lines 4 and 5)."""
        mean, log_std = functional_call(self.network, scope(meta, "network"), (*context, x))
        return mean.unsqueeze(0), log_std.unsqueeze(0)
