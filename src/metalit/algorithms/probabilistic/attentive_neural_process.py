"""Attentive neural processes (Kim et al. 2019, https://arxiv.org/abs/1901.05761), section 3.

1  sample tasks, each a set of targets T = {(x_i, y_i)}: support and query set              (data module)
2  for each task
3      draw the context C, a random subset of the support set, of random size
4      q(z | T), q(z | C): Gaussians over a latent variable, from the mean code of each set
5      draw z ~ q(z | T)
6      at each x of T:  r = cross-attention from x over the points of C;  mean, std = g(x, r, z)
7      minimise  - mean over T of log N(y | mean, std^2) + KL(q(z | T) || q(z | C)) / |T|   (engine, Lightning)

8  to predict:  draw z ~ q(z | C) several times, and apply line 6 to each; the mixture predicts
"""

from typing import Any

from torch import Tensor

from metalit.algorithms.probabilistic.neural_process import Context, NeuralProcess, whole_context
from metalit.episode import Labelled
from metalit.errors import at_least, not_negative
from metalit.functional.masks import count_examples
from metalit.functional.predictive import gaussian_kl
from metalit.networks import AttentiveProcess
from metalit.tasks.method_call import Method, functional_call
from metalit.tasks.parameters import Params, scope
from metalit.tasks.task_context import normal_like


class AttentiveNeuralProcess(NeuralProcess):
    """Predicts Gaussians at each point, by cross-attention to the support points and a latent variable.

    Args:
        network: an ``AttentiveProcess``.
        samples: number of draws of the latent variable in evaluation, >= 1.
        kl_weight: weight of the KL divergence per target, >= 0; 1 gives the variational bound.
        **learner: the settings of ``NeuralProcess`` and ``MetaLearner``.

    Raises:
        SettingError: a number outside its range.
    """

    def __init__(self, network: AttentiveProcess, samples: int = 10, kl_weight: float = 1.0, **learner: Any) -> None:
        super().__init__(network, **learner)
        at_least(1, samples=samples)
        # in tuples: as plain attributes they would register the predictor's parameters a second time
        self._encode, self._decode = ((Method(network.predictor, name),) for name in ("encode", "decode"))
        self.samples, self.kl_weight = samples, not_negative("kl_weight", kl_weight)

    def encode(self, meta: Params, context: Context) -> Any:
        """Return the encoded context, and draws of the latent variable (line 8)."""
        return self.seen(meta, context), self.draws(self.latent(meta, context), self.samples)

    def gaussians_at(self, meta: Params, state: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation for each draw of the latent variable (line 6)."""
        context, draws = state
        return self._decode[0].with_parameters(scope(meta, "network.predictor"), context, draws, x)  # type: ignore[no-any-return]

    def gaussians_in_training(self, meta: Params, context: Context, targets: Labelled) -> tuple[Tensor, Tensor, Params]:
        """Return Gaussians at the targets, with z drawn from q(z | T), and the KL divergence of line 7."""
        everything = whole_context(targets)
        posterior, prior = self.latent(meta, everything), self.latent(meta, context)  # line 4
        # per target, because the likelihood is a mean over targets
        kl = gaussian_kl(*posterior, *prior) / count_examples(targets.mask, len(targets.y))
        state = self.seen(meta, context), self.draws(posterior, 1)  # line 5
        return *self.gaussians_at(meta, state, targets.x), {"kl": self.kl_weight * kl}

    def latent(self, meta: Params, points: Context) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the latent variable, ``[latents]`` each."""
        encoder = self.network.get_submodule("latent")
        return functional_call(encoder, scope(meta, "network.latent"), tuple(points))  # type: ignore[no-any-return]

    def seen(self, meta: Params, context: Context) -> Any:
        """Return encoded inputs and codes of the context points, for the cross-attention of line 6."""
        return self._encode[0].with_parameters(scope(meta, "network.predictor"), *context)

    def draws(self, latent: tuple[Tensor, Tensor], samples: int) -> Tensor:
        """Draw the latent variable ``samples`` times, ``[samples, latents]``."""
        mean, log_std = latent
        means = mean.expand(samples, -1)
        return means + log_std.exp() * normal_like(means)
