"""Probabilistic meta-learning: learn a distribution over the parameters of a task, for predictions with uncertainty.

Legend: M samples or particles of the parameters that adapt.
"""

import math
from abc import ABC
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError, positive
from metalit.functional.losses import task_loss
from metalit.functional.masks import masked_mean
from metalit.functional.predictive import expected_calibration_error, gaussian_nll, gaussian_spread, mixture
from metalit.networks.normalisation import batch_norm_mode
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.task_context import map_rows
from metalit.update_rules import UpdateRule


class ParticleMetaLearner(GradientBasedMetaLearner, ABC):
    """Adapts M parameter vectors to each task by gradient descent on its support loss.

    An algorithm implements ``start`` and ``inner_step``. Adapted parameters have a leading axis M: ``adapted`` is
    ``[M, *shape]`` by name. The loss of a task is the mean over the M vectors, its prediction that of their mixture. In
    regression each vector predicts a Gaussian. Its standard deviation, shared by all tasks, is fitted to the mixture by
    maximum likelihood, as a penalty that trains nothing else.

    Args:
        network: the network.
        update_rule: turns a gradient into an inner step.
        noise: initial standard deviation, in the units of the targets; > 0. Unused in classification.
        **learner: the settings of ``GradientBasedMetaLearner`` and ``MetaLearner``.

    Raises:
        UserError: a noise that is not positive, or a batch norm with running statistics, which M vectors cannot share.
    """

    def __init__(self, network: nn.Module, update_rule: UpdateRule, noise: float = 1.0, **learner: Any) -> None:
        super().__init__(network, update_rule, **learner)
        if batch_norm_mode(network) not in ("batch", "none"):
            raise UserError(
                f"{type(self).__name__} runs a network with several parameters at once, which cannot share running "
                "statistics: use batch_norm: batch or none"
            )
        self.log_noise = nn.Parameter(torch.tensor(math.log(positive("noise", noise))))

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return whether the task is classification, and the M adapted parameter vectors."""
        # ``mixture`` averages probabilities in classification and values in regression; the outputs do not tell which
        return ways > 0, super().learn(meta, support, ways)

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return the predictions of the mixture: logits ``[n, N]``, or mean values ``[n, outputs]``."""
        return mixture(self.predict_by_each(meta, state, x), classification=state[0])

    def predict_by_each(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return the predictions of each of the M parameter vectors, ``[M, n, ...]``."""
        return self.outputs(meta, state[1], x)

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return the network's outputs for each of the M parameter vectors, ``[M, n, ...]``."""
        # ``adapted`` may hold other entries, such as the KL divergence of PLATIPUS
        stack = {name: adapted[name] for name in self.adapted_names}
        one = partial(self._outputs_by_one, meta, x=x)
        return map_rows(one, stack)  # type: ignore[no-any-return]

    def outputs_at_start(self, meta: Params, support: Labelled) -> Tensor:
        """Return the outputs ``[S, ...]`` of the first parameter vector before any inner step."""
        return super().outputs_at_start(meta, support)[0]

    def loss(self, meta: Params, adapted: Params, examples: Labelled) -> Tensor:
        """Return the loss on ``examples``, a mean over examples and the M parameter vectors."""
        return mean_loss(self.outputs(meta, adapted, examples.x), examples.y, examples.mask)

    def gradients(self, meta: Params, support: Labelled, adapted: Params) -> tuple[Params, Tensor]:
        """Return the gradient of each parameter vector's own support loss, ``[M, *shape]``, and the mean loss."""
        stack = {name: adapted[name] for name in self.adapted_names}
        # the gradient of the mean over the M vectors has a factor 1/M, which ``len(value)`` undoes
        gradient, loss = self.inner_gradient(meta, support, stack)
        return {name: len(value) * value for name, value in gradient.items()}, loss

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return loss and predictions of the mixture, with its likelihood and its calibration error or spread."""
        values = self.outputs(meta, adapted, query.x)
        loss = mean_loss(values, query.y, query.mask)
        classification = not query.y.is_floating_point()
        predictions = mixture(values, classification)
        if classification:
            nll = task_loss(predictions, query.y, query.mask)
            ece = expected_calibration_error(predictions, query.y, mask=query.mask)
            # the noise has no part in classification: a term that is zero gives it a gradient of zero
            measured, unused = {"nll": nll.detach(), "ece": ece.detach()}, 0 * meta["log_noise"]
            return Outcome(loss, predictions, measured=measured, penalties={"noise": unused})
        # detached: the likelihood fits the noise and nothing else
        known, log_noise = values.detach(), meta["log_noise"]
        nll = gaussian_nll(known, log_noise, query.y, query.mask)
        spread = masked_mean(gaussian_spread(known, log_noise.detach()), query.mask).mean()
        measured = {"nll": nll.detach(), "spread": spread}
        return Outcome(loss, predictions, measured=measured, penalties={"noise": nll})

    def sample(self, support: Labelled, x: Any) -> Tensor:
        """Learn ONE task and return the predictions of each of its M parameter vectors.

        Args:
            support: the support set, as in ``adapt``.
            x: inputs ``[n, ...]``.

        Returns:
            values ``[M, n, outputs]``, without noise, or logits ``[M, n, N]``.
        """
        predictor = self.adapt(support)
        return predictor.apply(predictor.learner.predict_by_each, x)

    def gaussians(self, support: Labelled, x: Any) -> tuple[Tensor, Tensor]:
        """Learn ONE regression task and return mean and standard deviation of its M Gaussians at each input.

        Args:
            support: ``x [S, ...]``, ``y [S, outputs]``.
            x: inputs ``[n, ...]``.

        Returns:
            ``[M, n, outputs]`` each.
        """
        means = self.sample(support, x)
        return means, self.log_noise.detach().exp().expand(means.shape)

    def _outputs_by_one(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        return super().outputs(meta, adapted, x)


def mean_loss(values: Tensor, targets: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the loss of predictions ``[M, n, ...]``, a mean over samples and examples (``mask [n]``)."""

    def repeated(part: Tensor) -> Tensor:
        return part.expand(len(values), *part.shape).flatten(0, 1)

    return task_loss(values.flatten(0, 1), repeated(targets), None if mask is None else repeated(mask))
