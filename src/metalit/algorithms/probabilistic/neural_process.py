"""Neural processes: predict Gaussians at query points from a set of labelled points, without inner gradient steps.

Legend: C points of the context, which is the support set or a random part of it; M samples.
"""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

from torch import Tensor, nn

from metalit.algorithms.meta_learner import MetaLearner
from metalit.episode import Labelled
from metalit.errors import SettingError, UserError, at_least
from metalit.functional.masks import count_examples, mask_of, masked_mean, together
from metalit.functional.predictive import gaussian_nll, gaussian_spread
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.task_context import uniform_like


class Context(NamedTuple):
    """The labelled points from which a task is learned.

    Attributes:
        x: ``[C, inputs]``.
        y: ``[C, outputs]``.
        counts: ``[C]``, 1 for points of the context, 0 for points that are masked out or padding.
    """

    x: Tensor
    y: Tensor
    counts: Tensor


class NeuralProcess(MetaLearner, ABC):
    """Predicts a mixture of Gaussians at each point, given a context.

    An algorithm implements ``encode`` and ``gaussians_at``.

    The loss is the negative log-likelihood per point. In training it covers support and query set, so the context is
    part of the targets; in evaluation it covers the query set.

    Args:
        network: the network.
        min_context: in training, the context of each task has a random size between this and the number of support
            points; >= 1. Default, and for a task with fewer points: all support points.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a ``min_context`` below 1 or above the shots, class labels, or an objective that measures adapted
            parameters.
    """

    honours_masks = True

    def __init__(self, network: nn.Module, min_context: int | None = None, **learner: Any) -> None:
        super().__init__(network, **learner)
        at_least(1, min_context=min_context)
        self.min_context = min_context
        if self.objective.uses_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} uses adapted parameters, and a neural process "
                "adapts none: use a gradient-based method"
            )

    @abstractmethod
    def encode(self, meta: Params, context: Context) -> Any:
        """Return an encoding of the context, a pytree of tensors: all that ``gaussians_at`` needs."""

    @abstractmethod
    def gaussians_at(self, meta: Params, state: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of M Gaussians at each input, ``[M, n, outputs]`` each.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            state: the return value of ``encode``.
            x: ``[n, inputs]``.
        """

    def gaussians_in_training(self, meta: Params, context: Context, targets: Labelled) -> tuple[Tensor, Tensor, Params]:
        """Return Gaussians at the targets, and penalties by name; a method may use the labels of the targets here."""
        return *self.gaussians_at(meta, self.encode(meta, context), targets.x), {}

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Predict support and query set from a random part of the support set.

        In evaluation mode, predict the query set from the whole support set.
        """
        # in evaluation the labels of queries must not reach a latent variable
        if not self.training:
            outcome = self.evaluate_task(meta, support, query, ways)
            return Outcome(outcome.loss[0], outcome.predictions[0])
        targets = together(support, query)
        mean, log_std, penalties = self.gaussians_in_training(meta, self.random_context(support), targets)
        loss = gaussian_nll(mean, log_std, targets.y, targets.mask)
        measured = {"spread": masked_mean(gaussian_spread(mean.detach(), log_std.detach()), targets.mask).mean()}
        return Outcome(loss, mean[:, len(support.y) :].mean(dim=0), measured=measured, penalties=penalties)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Predict the query set from the whole support set, a single stage, T = 1."""
        mean, log_std = self.gaussians_at(meta, self.encode(meta, whole_context(support)), query.x)
        nll = gaussian_nll(mean, log_std, query.y, query.mask).unsqueeze(0)
        spread = masked_mean(gaussian_spread(mean, log_std), query.mask).mean().unsqueeze(0)
        return Outcome(nll, mean.mean(dim=0).unsqueeze(0), measured={"nll": nll, "spread": spread})

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the encoded support set."""
        return self.encode(meta, whole_context(support))

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return the mean of the mixture at inputs ``[n, inputs]``, ``[n, outputs]``."""
        return self.gaussians_at(meta, state, x)[0].mean(dim=0)

    def gaussians(self, support: Labelled, x: Tensor) -> tuple[Tensor, Tensor]:
        """Learn ONE task and return mean and standard deviation of the M Gaussians at each input.

        Args:
            support: ``x [S, inputs]``, ``y [S, outputs]``.
            x: ``[n, inputs]``.

        Returns:
            ``[M, n, outputs]`` each.
        """
        predictor = self.adapt(support)
        mean, log_std = predictor.apply(predictor.learner.gaussians_at, x)
        return mean, log_std.exp()

    def sample(self, support: Labelled, x: Tensor) -> Tensor:
        """Learn ONE task and return the means of the M Gaussians at each input, ``[M, n, outputs]``."""
        return self.gaussians(support, x)[0]

    def random_context(self, support: Labelled) -> Context:
        """Return a random subset of the support set, of random size."""
        everything, shots = whole_context(support), len(support.y)
        if self.min_context is not None and self.min_context > shots:
            raise SettingError(
                "min_context", self.min_context, f"at most {shots}, the shots of a task", owner=type(self)
            )
        # a mask instead of fewer points, so that all tasks of a batch keep one shape under ``vmap``; ``argsort`` twice
        # gives each point its rank in a random order
        numbers, known = uniform_like(support.y[:, 0]), mask_of(support)
        # padding comes after all points
        order = (numbers + 2 * ~known).argsort().argsort()
        points = count_examples(support.mask, shots)
        least = points if self.min_context is None else known.sum().clamp(max=self.min_context)
        size = least + (uniform_like(support.y[0, 0]) * (points - least + 1)).floor()
        return everything._replace(counts=(order < size).to(support.y.dtype))


def whole_context(support: Labelled) -> Context:
    """Return the whole support set as a context.

    Raises:
        UserError: the task is classification.
    """
    if not support.y.is_floating_point():
        raise UserError("a neural process predicts numbers, but the labels are integers: use a method that classifies")
    return Context(support.x, support.y, counts=mask_of(support).to(support.y.dtype))
