"""Memory-based meta-learning: a task is learned by reading its examples one after another."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalit.algorithms.base import MetaLearner
from metalit.episode import Labelled
from metalit.functional.checks import at_least
from metalit.functional.losses import task_loss
from metalit.functional.parameters import Params, scope
from metalit.functional.sequence import accuracy_by_presentation, shuffled
from metalit.outcome import Outcome


class MemoryMetaLearner(MetaLearner, ABC):
    """Reads the support set in random order, then every query by itself. An algorithm writes ``read`` alone.

    The order does not depend on how the examples stand in the episode; in evaluation a task has always the same.

    Args:
        network: what sees single examples.
        ways: N, the number of classes of every task, which is fixed since the network is told labels by a code of
            that length; on the command line it follows ``data.ways``. None for regression.
        outputs: in regression, numbers of a target; >= 1.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: a number outside its range, tasks that are not as announced, or an objective that looks at adapted
            parameters.
    """

    def __init__(self, network: nn.Module, ways: int | None = None, outputs: int = 1, **learner: Any) -> None:
        super().__init__(network, **learner)
        at_least(1, ways=ways, outputs=outputs)
        if self.objective.looks_at_adaptation:
            raise ValueError(
                f"the objective {type(self.objective).__name__} looks at adapted parameters, and a memory-based method "
                "adapts none: use a gradient-based method"
            )
        self.ways = ways
        self.width = outputs if ways is None else ways  # of a label's code, and of a prediction

    @abstractmethod
    def read(self, meta: Params, support: Labelled, query: Tensor) -> Tensor:
        """Read one task.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: ``x [S, ...]``, ``y [S, ...]``, in the order in which they are to be read.
            query: ``[Q, ...]``, each to be read after the support set, and none to see another.

        Returns:
            predictions of the queries, ``[Q, width]``; or ``[S + Q, width]`` where the support examples are predicted
            too, each before its own label is told. All that is predicted is trained.
        """

    def task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Read the task; the loss is over all predictions."""
        support, predictions = self._read_in_random_order(meta, support, query.x, ways)
        targets = torch.cat([support.y, query.y])[-len(predictions) :]
        measured = self.by_presentation(predictions, support, query)
        return Outcome(task_loss(predictions, targets), predictions[-len(query.y) :], measured=measured)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome of the queries as the only stage, T = 1: nothing is adapted."""
        support, predictions = self._read_in_random_order(meta, support, query.x, ways)
        measured = self.by_presentation(predictions, support, query)
        predictions = predictions[-len(query.y) :]
        return Outcome(
            task_loss(predictions, query.y).unsqueeze(0),
            predictions.unsqueeze(0),
            measured={name: value.unsqueeze(0) for name, value in measured.items()},
        )

    @torch.no_grad()
    def adapt(self, support: Labelled) -> Callable[[Tensor], Tensor]:
        """Remember one task's support set and return its predictor."""
        return partial(self._predict_in_context, support, self.ways_of(support))

    def embed(self, meta: Params, x: Tensor) -> Tensor:
        """Return the network's outputs ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))  # type: ignore[no-any-return]

    def check(self, support: Labelled, ways: int) -> None:
        """Refuse tasks that the codes of labels do not fit."""
        name = type(self).__name__
        if self.ways is None and ways > 0:
            raise ValueError(
                f"the tasks have {ways} classes, but ways is not given: give {name}(ways={ways})"
            )
        if self.ways is not None and ways == 0:
            raise ValueError(
                f"ways is {self.ways}, but the targets are numbers: without ways {name} does regression"
            )
        if self.ways is not None and ways != self.ways:
            raise ValueError(
                f"ways is {self.ways}, but the tasks have {ways} classes: {name} is told labels by a code of fixed "
                "length, so every task must have as many, in training and in the test"
            )
        if ways == 0 and support.y.shape[-1] != self.width:
            raise ValueError(
                f"outputs is {self.width}, but the targets have {support.y.shape[-1]} numbers each"
            )

    def by_presentation(self, predictions: Tensor, support: Labelled, query: Labelled) -> Params:
        """Return the accuracy by presentation of a class, the queries coming last, where all steps are predicted."""
        shown = len(support.y)
        if self.ways is None or len(predictions) == len(query.y):
            return {}
        accuracies = accuracy_by_presentation(predictions[:shown], support.y, shown // self.ways)
        accuracies.append((predictions[shown:].argmax(dim=-1) == query.y).float().mean())
        return {f"accuracy_presentation_{k}": value for k, value in enumerate(accuracies, start=1)}

    def _read_in_random_order(
        self, meta: Params, support: Labelled, query: Tensor, ways: int
    ) -> tuple[Labelled, Tensor]:
        self.check(support, ways)
        support = shuffled(support)
        return support, self.read(meta, support, query)

    @torch.no_grad()
    def _predict_in_context(self, support: Labelled, ways: int, x: Tensor) -> Tensor:
        meta = self.tensors()
        with self.context():
            return self._read_in_random_order(meta, support, x, ways)[1][-len(x) :]
