"""Conditional neural processes (Garnelo et al. 2018, https://arxiv.org/abs/1807.01613), section 2.

1  sample tasks, each a set of points O = {(x_i, y_i)}: support and query set               (data module)
2  for each task
3      draw the context, a random subset of the support set, of random size
4      r_i = h(x_i, y_i) for each point of the context;  r = mean of r_i
5      at each point x of O:  mean, std = g(x, r),  std = 0.1 + 0.9 softplus
6      minimise  - mean over O of log N(y | mean, std^2)                                    (engine, Lightning)
"""

from typing import Any

from torch import Tensor, nn

from metalit.algorithms.probabilistic.neural_process import Context, NeuralProcess
from metalit.tasks.method_call import Method
from metalit.tasks.parameters import Params, scope


class ConditionalNeuralProcess(NeuralProcess):
    """Predicts a Gaussian at each point, given the mean code of the support points.

    Args:
        network: a ``ConditionalProcess``, or another module with the methods ``encode`` and ``decode``.
        **learner: the settings of ``NeuralProcess`` and ``MetaLearner``.
    """

    def __init__(self, network: nn.Module, **learner: Any) -> None:
        super().__init__(network, **learner)
        # in tuples: as plain attributes they would register the network's parameters a second time
        self._encode, self._decode = ((Method(network, name),) for name in ("encode", "decode"))

    def encode(self, meta: Params, context: Context) -> Tensor:
        """Return the mean code of the context (line 4)."""
        return self._encode[0].with_parameters(scope(meta, "network"), *context)  # type: ignore[no-any-return]

    def gaussians_at(self, meta: Params, state: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of a single Gaussian, M = 1 (line 5)."""
        mean, log_std = self._decode[0].with_parameters(scope(meta, "network"), state, x)
        return mean.unsqueeze(0), log_std.unsqueeze(0)
