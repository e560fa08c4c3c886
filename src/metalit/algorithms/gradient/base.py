"""Gradient-based meta-learning: a task is learned by a few steps of gradient descent from a meta-learned start."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metalit.algorithms.base import MetaLearner
from metalit.episode import Labelled
from metalit.functional.losses import task_loss
from metalit.functional.parameters import Params, matching, scope
from metalit.functional.precision import without_autocast
from metalit.functional.update_rules import UpdateRule
from metalit.outcome import Outcome


class GradientBasedMetaLearner(MetaLearner, ABC):
    """Learns a task by descending its support loss. An algorithm writes ``trajectory`` alone.

    Args:
        network: the network; its parameters are the initialisation theta.
        update_rule: what one inner step does with the gradient.
        inner_steps: inner steps per task, >= 0; a trained model may be tested with more.
        adapted: shell-style patterns of the parameters that adapt, e.g. ``["head.*"]``; the others keep their
            meta-learned value within a task.
        inner_autocast: in mixed precision, take the inner steps in half precision too. Faster; but their gradients
            are not scaled against underflow, and second-order meta-gradients get noisy. Else they are in float32.
        **learner: the settings of ``MetaLearner``.

    Raises:
        ValueError: a negative number of steps, or a pattern that matches no parameter.
    """

    def __init__(
        self,
        network: nn.Module,
        update_rule: UpdateRule,
        inner_steps: int = 1,
        adapted: Sequence[str] = ("*",),
        inner_autocast: bool = False,
        **learner: Any,
    ) -> None:
        super().__init__(network, **learner)
        self.update_rule = update_rule
        self.inner_steps, self.inner_autocast = inner_steps, inner_autocast
        if inner_steps < 0:
            raise ValueError(f"inner_steps is {inner_steps}, but must be at least 0")
        self.adapted = tuple(adapted)
        self.adapted_names = matching([name for name, _ in network.named_parameters()], adapted)

    @abstractmethod
    def trajectory(self, meta: Params, support: Labelled, steps: int) -> list[Params]:
        """Return the adapted parameters of one task before the first and after each of ``steps`` inner steps."""

    def task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Adapt on the support set, then judge on the query set."""
        adapted = self.adapted_path(meta, support)[-1]
        return self.judge(meta, adapted, query)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Judge on the query set before the first and after each inner step: T = 1 + inner_steps."""
        path = self.adapted_path(meta, support)
        outcomes = [self.judge(meta, adapted, query) for adapted in path]
        return Outcome(
            loss=torch.stack([outcome.loss for outcome in outcomes]),
            predictions=torch.stack([outcome.predictions for outcome in outcomes]),
        )

    @torch.no_grad()
    def adapt(self, support: Labelled) -> Callable[[Tensor], Tensor]:
        """Learn one task and return its predictor."""
        meta = {name: value for part in self.meta() for name, value in part.items()}
        with self.context():
            adapted = self.adapted_path(meta, support)[-1]
        return partial(self._predict_in_context, meta, adapted)

    def setting(self) -> dict[str, Any]:
        """Return what a reader of a result must know about the method."""
        return {**super().setting(), "inner_steps": self.inner_steps, "adapted": list(self.adapted)}

    def adapted_path(self, meta: Params, support: Labelled) -> list[Params]:
        """Return the trajectory over all inner steps, computed in the precision of the inner loop."""
        with nullcontext() if self.inner_autocast else without_autocast(support.y.device):
            return self.trajectory(meta, support, self.inner_steps)

    def start(self, meta: Params) -> Params:
        """Return the initial value of the parameters that adapt."""
        network = scope(meta, "network")
        return {name: network[name] for name in self.adapted_names}

    def predict(self, meta: Params, adapted: Params, x: Tensor) -> Tensor:
        """Return one task's predictions for inputs ``[n, ...]``."""
        return functional_call(self.network, {**scope(meta, "network"), **adapted}, (x,))  # type: ignore[no-any-return]

    def loss(self, adapted: Params, meta: Params, examples: Labelled) -> Tensor:
        """Return one task's mean loss on some examples; its first argument is what inner steps differentiate."""
        return task_loss(self.predict(meta, adapted, examples.x), examples.y)

    def update(self, meta: Params, gradient: Params, state: Any, adapted: Params) -> tuple[Params, Any]:
        """Apply the update rule, with its own meta-learned parameters if it has any."""
        rule = scope(meta, "update_rule")
        return functional_call(self.update_rule, rule, (gradient, state, adapted))  # type: ignore[no-any-return]

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return loss and predictions on the query set."""
        predictions = self.predict(meta, adapted, query.x)
        return Outcome(task_loss(predictions, query.y), predictions)

    @torch.no_grad()
    def _predict_in_context(self, meta: Params, adapted: Params, x: Tensor) -> Tensor:
        with self.context():
            return self.predict(meta, adapted, x)
