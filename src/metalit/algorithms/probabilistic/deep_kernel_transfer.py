"""Deep kernel transfer (Patacchiola et al. 2020, https://arxiv.org/abs/1910.05199), algorithm 1.

    1  initialise the network phi and the parameters theta of a kernel k
    2  while not done
    3      sample a task: all its examples, support and query set together               (data module)
    4      L = -log p(y | X) = -log N(y | m, K + sigma^2 I),  K = k(phi(X), phi(X))      (GaussianProcess.loss)
    5      theta, phi <- gradient steps on L                                             (engine, Lightning)
    6  at a new task: the posterior of the Gaussian process given the support set        (GaussianProcess.fit)

Classes are regressed on, one against the others, with labels of 1 and -1.
"""

from typing import Any

from torch import Tensor, nn

from metalit.algorithms.metric.base import MetricMetaLearner
from metalit.episode import Labelled
from metalit.functional.losses import task_loss
from metalit.functional.masks import masked_mean, together
from metalit.functional.predictive import expected_calibration_error, gaussian_nll, gaussian_spread
from metalit.heads import Conditioned, GaussianProcess, Kernel, RBFKernel
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import Method
from metalit.tasks.parameters import Params, scope


class DeepKernelTransfer(MetricMetaLearner):
    """A Gaussian process on learned embeddings, trained by the marginal likelihood of whole tasks.

    Nothing adapts to a task but the posterior, in closed form. Predictions are Gaussians.

    In training the loss is minus the log marginal likelihood per example, support and query set together. In evaluation
    it is that of the queries given the support set: the negative log-likelihood in regression, the cross-entropy in
    classification.

    Args:
        network: the embedding phi, ``[n, ...]`` to ``[n, D]``.
        kernel: k; default: the squared exponential.
        noise: initial variance sigma^2 of the noise, above ``min_noise``.
        min_noise: what the noise cannot fall below, >= 0.
        learn_noise: whether the noise is learned.
        **learner: the settings of ``MetaLearner``.

    Raises:
        SettingError: a number is out of range.

    Differences from the paper: see docs/algorithms/deep_kernel_transfer.md.
    """

    def __init__(
        self,
        network: nn.Module,
        kernel: Kernel | None = None,
        noise: float = 0.1,
        min_noise: float = 1e-4,
        learn_noise: bool = True,
        **learner: Any,
    ) -> None:
        head = GaussianProcess(kernel or RBFKernel(), noise, min_noise, learn_noise)
        super().__init__(network, head, **learner)
        # in tuples: as plain attributes they would register the head's parameters a second time
        self._predictive, self._likelihood = ((Method(head, name),) for name in ("predictive", "loss"))

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Return minus the log marginal likelihood per example of both sets together (line 4).

        In evaluation mode, predict the query set from the support set.
        """
        if not self.training:
            outcome = self.evaluate_task(meta, support, query, ways)
            return Outcome(outcome.loss[0], outcome.predictions[0])
        support, query = self.embed_both(meta, support, query)
        loss = self._likelihood[0].with_parameters(scope(meta, "head"), together(support, query), ways)
        return Outcome(loss, self.scores(meta, support, query.x, ways))

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Predict the query set from the support set (line 6), a single stage, T = 1."""
        support, query = self.embed_both(meta, support, query)
        fitted = self.fit(meta, support, ways)
        if ways:
            scores = self.classify(meta, fitted, query.x)
            loss = task_loss(scores, query.y, query.mask).unsqueeze(0)
            ece = expected_calibration_error(scores, query.y, mask=query.mask).unsqueeze(0)
            return Outcome(loss, scores.unsqueeze(0), measured={"ece": ece})
        mean, log_std = self.gaussians_at(meta, fitted, query.x)
        nll = gaussian_nll(mean, log_std, query.y, query.mask).unsqueeze(0)
        spread = masked_mean(gaussian_spread(mean, log_std), query.mask).mean().unsqueeze(0)
        return Outcome(nll, mean, measured={"nll": nll, "spread": spread})

    def gaussians_at(self, meta: Params, fitted: Conditioned, query: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of the prediction at embeddings ``[Q, D]``, ``[1, Q, outputs]`` each.

        In classification they are those of the labels, 1 and -1, of each class.
        """
        mean, variance = self._predictive[0].with_parameters(scope(meta, "head"), fitted, query)
        # all outputs have one variance, because they share the kernel
        return mean.unsqueeze(0), (0.5 * variance.log()).unsqueeze(-1).expand(mean.shape).unsqueeze(0)

    def gaussians(self, support: Labelled, x: Any) -> tuple[Tensor, Tensor]:
        """Learn ONE task and return mean and standard deviation of the prediction at each input.

        Args:
            support: ``x [S, ...]``, ``y [S, outputs]``.
            x: inputs ``[n, ...]``.

        Returns:
            ``[1, n, outputs]`` each, as methods of several samples return them.
        """
        predictor = self.adapt(support)
        mean, log_std = predictor.apply(predictor.learner.gaussians_of_inputs, x)
        return mean, log_std.exp()

    def gaussians_of_inputs(self, meta: Params, state: Any, x: Any) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation at inputs ``[n, ...]``, from the return value of ``learn``."""
        if not self.transductive():
            return self.gaussians_at(meta, state, self.embed(meta, x))
        support, ways = state
        embedded, queries = self.embed_jointly(meta, support.x, x)
        return self.gaussians_at(meta, self.fit(meta, support._replace(x=embedded), ways), queries)
