"""Memory-based meta-learning: read the support set into a memory, then answer each query from it."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from metalit.algorithms.memory.sequence import accuracy_by_presentation, shuffled
from metalit.algorithms.meta_learner import MetaLearner
from metalit.episode import Labelled
from metalit.errors import SettingError, UserError, at_least
from metalit.functional.examples import count, joined, split
from metalit.functional.losses import task_loss
from metalit.networks.normalisation import use_running_statistics
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope


class MemoryMetaLearner(MetaLearner, ABC):
    """Reads the support set in random order, then each query separately.

    An algorithm implements ``read`` and ``answer``. The order does not depend on the order of the examples in the
    episode; in evaluation a task is always read in the same order. Both sets are embedded in one pass in training, and
    in evaluation if the network is transductive. Batch norms whose mode was not given use running statistics.

    Args:
        network: the embedding of single examples.
        ways: N, the number of classes of every task; None for regression. It is fixed, because labels are read as
            one-hot vectors of this length. On the command line it follows ``data.ways``.
        outputs: in regression, the number of values of a target; >= 1.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a number outside its range, tasks that do not match ``ways`` or ``outputs``, or an objective that
            measures adapted parameters.
    """

    def __init__(self, network: nn.Module, ways: int | None = None, outputs: int = 1, **learner: Any) -> None:
        super().__init__(network, **learner)
        # batch statistics would make the prediction for a query depend on the other queries
        use_running_statistics(self)
        at_least(1, ways=ways, outputs=outputs)
        if self.objective.uses_adaptation:
            raise UserError(
                f"the objective {type(self.objective).__name__} uses adapted parameters, and a memory-based method "
                "adapts none: use a gradient-based method"
            )
        self.ways = ways
        self.width = outputs if ways is None else ways  # length of an encoded label, and of a prediction

    @abstractmethod
    def read(self, meta: Params, support: Labelled) -> tuple[Any, Tensor]:
        """Read the support set of one task.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: embeddings ``x [S, ...]`` and labels ``y [S, ...]``, in reading order.

        Returns:
            the memory, a pytree of tensors; and predictions ``[S, width]`` for the support examples, each made before
            its own label is read, or ``[0, width]`` if the method makes none. All predictions are part of the loss.
        """

    @abstractmethod
    def answer(self, meta: Params, memory: Any, query: Any) -> Tensor:
        """Return predictions ``[Q, width]`` for embedded queries ``[Q, ...]``, independent of one another."""

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Read the support set and answer the queries; the loss is the mean over all predictions."""
        support, before, predictions = self.read_and_answer(meta, support, query.x, ways)
        loss = task_loss(torch.cat([before, predictions]), torch.cat([support.y[: len(before)], query.y]))
        return Outcome(loss, predictions, measured=self.by_presentation(before, support, predictions, query))

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome for the queries as a single stage, T = 1: nothing is adapted."""
        support, before, predictions = self.read_and_answer(meta, support, query.x, ways)
        measured = self.by_presentation(before, support, predictions, query)
        return Outcome(
            task_loss(predictions, query.y).unsqueeze(0),
            predictions.unsqueeze(0),
            measured={name: value.unsqueeze(0) for name, value in measured.items()},
        )

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the memory, or for a transductive network the support set, which is embedded with the queries."""
        support = shuffled(support)
        if self.transductive():
            return support
        return self.read(meta, support._replace(x=self.embed(meta, support.x)))[0]

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's predictions for inputs ``[n, ...]``, each independent of the others."""
        if self.transductive():
            embedded, queries = self.embed_both(meta, state.x, x)
            return self.answer(meta, self.read(meta, state._replace(x=embedded))[0], queries)
        return self.answer(meta, state, self.embed(meta, x))

    def read_and_answer(
        self, meta: Params, support: Labelled, query: Any, ways: int
    ) -> tuple[Labelled, Tensor, Tensor]:
        """Return the support set in reading order, its predictions, and those for the queries; see ``read``."""
        self.check(meta, support, ways)
        # an episode holds its examples sorted by class
        support = shuffled(support)
        embedded, queries = self.embed_both(meta, support.x, query)
        memory, before = self.read(meta, support._replace(x=embedded))
        return support, before, self.answer(meta, memory, queries)

    def embed_both(self, meta: Params, support: Any, query: Any) -> tuple[Any, Any]:
        """Return the embeddings of support and query set."""
        if self.training or self.transductive():
            return split(self.embed(meta, joined(support, query)), count(support))
        return self.embed(meta, support), self.embed(meta, query)

    def embed(self, meta: Params, x: Any) -> Any:
        """Return the network's outputs ``[n, D]``."""
        return functional_call(self.network, scope(meta, "network"), (x,))

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse tasks whose number of classes or outputs differs from the length of the encoded labels."""
        name = type(self).__name__
        if self.ways != (ways or None):
            expected = (
                f"{ways}, the classes of each task: {name} sees labels as one-hot vectors, whose length is fixed"
                if ways
                else f"null: the targets are numbers, and without ways {name} does regression"
            )
            raise SettingError("ways", self.ways, expected, owner=type(self))
        if ways == 0 and support.y.shape[-1] != self.width:
            numbers = support.y.shape[-1]
            raise SettingError("outputs", self.width, f"{numbers}, the numbers of a target", owner=type(self))

    def by_presentation(self, before: Tensor, support: Labelled, predictions: Tensor, query: Labelled) -> Params:
        """Return the accuracy at each presentation of a class, queries last; nothing if support is not predicted."""
        if self.ways is None or not len(before):
            return {}
        # a class is presented K times in the support set and once more as a query
        accuracies = accuracy_by_presentation(before, support.y, len(before) // self.ways)
        accuracies.append((predictions.argmax(dim=-1) == query.y).float().mean())
        return {f"accuracy_presentation_{k}": value for k, value in enumerate(accuracies, start=1)}
