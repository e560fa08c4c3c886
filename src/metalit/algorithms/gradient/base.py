"""Gradient-based meta-learning: adapt to a task by a few gradient steps from a meta-learned initialisation."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from metalit.algorithms.meta_learner import MetaLearner
from metalit.episode import Labelled
from metalit.errors import UserError, at_least
from metalit.functional.losses import check_targets, task_loss
from metalit.objectives import LearnedTask, Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.checkpointing import checkpointed
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, detached, scope, select
from metalit.tasks.precision import without_autocast
from metalit.tasks.pullback import gradient_and_value
from metalit.update_rules import UpdateRule

Start = Callable[[Params, Labelled], tuple[Params, Any]]
Loss = Callable[[Params, Labelled], Tensor]


class GradientBasedMetaLearner(MetaLearner, ABC):
    """Adapts to a task by gradient descent on its support loss. An algorithm implements ``inner_step``.

    Args:
        network: the network; its parameters are the initialisation theta.
        update_rule: turns a gradient into an inner step.
        inner_steps: inner steps per task in training, >= 0.
        eval_inner_steps: inner steps in evaluation; default: ``inner_steps``.
        adapted: shell-style patterns of the parameters that adapt, e.g. ``["head.*"]``, or ``["*", "!head.*"]`` for all
            but the head; ``*`` matches all that are not frozen. All others keep their meta-learned value in a task.
        first_order: hold the inner gradients constant in the meta-gradient: cheaper, without second derivatives.
        checkpoint_steps: keep only the parameters of each inner step for the backward pass and recompute the rest: less
            memory for about a third more time.
        inner_autocast: in mixed precision, take the inner steps in half precision too instead of float32: faster, but
            their gradients can underflow.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: a negative number of steps, a pattern that matches no parameter or a frozen one, or settings that
            exclude one another.
    """

    honours_masks = True

    def __init__(
        self,
        network: nn.Module,
        update_rule: UpdateRule,
        inner_steps: int = 1,
        eval_inner_steps: int | None = None,
        adapted: Sequence[str] = ("*",),
        first_order: bool = False,
        checkpoint_steps: bool = False,
        inner_autocast: bool = False,
        **learner: Any,
    ) -> None:
        super().__init__(network, **learner)
        self.update_rule = update_rule
        self.inner_steps, self.eval_inner_steps = inner_steps, eval_inner_steps
        at_least(0, inner_steps=inner_steps, eval_inner_steps=eval_inner_steps)
        self.adapted = tuple(adapted)
        self.may_adapt = list(select(network, adapted))
        self.first_order, self.inner_autocast = first_order, inner_autocast
        self.checkpoint_steps = checkpoint_steps
        if checkpoint_steps and self.engine.compile:
            raise UserError("checkpoint_steps does not go with engine.compile: torch cannot compile it")

    @abstractmethod
    def inner_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return one task's adapted parameters and state after one more inner step.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: the support set.
            adapted: the task's parameters before the step, by their name in the network.
            state: the state returned by ``start`` or by the previous step.
        """

    @property
    def adapted_names(self) -> list[str]:
        """Names of the parameters that adapt: those matched by ``adapted`` and not frozen since."""
        # read at each call: a callback may freeze or unfreeze parameters during training
        return [name for name in self.may_adapt if self.network.get_parameter(name).requires_grad]

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return a task's parameters before the first inner step, and the state of the update rule."""
        network = scope(meta, "network")
        adapted = {name: network[name] for name in self.adapted_names}
        return adapted, self.update_rule.init(adapted)

    def start_in_training(self, meta: Params, support: Labelled, query: Labelled) -> tuple[Params, Any]:
        """Return parameters and state before the first inner step of a training task; ``start`` by default.

        A method may use the query set here, in training only.
        """
        return self.start(meta, support)

    def outputs(self, meta: Params, adapted: Params, x: Any) -> Tensor:
        """Return the network's outputs for inputs ``[n, ...]``, with one task's adapted parameters."""
        return functional_call(self.network, {**scope(meta, "network"), **adapted}, (x,))  # type: ignore[no-any-return]

    def penalties(self, meta: Params, support: Labelled, path: list[Params]) -> Params:
        """Return the terms that the method adds to the meta-loss of a task, 0-d by name; none by default."""
        return {}

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Adapt on the support set, then evaluate on the query set."""
        learn = partial(self.trajectory, meta, steps=self.inner_steps)
        path = learn(support, start=partial(self.start_in_training, query=query))
        learned = LearnedTask(
            path,
            self.adapted_names,
            support,
            query,
            partial(self.loss, meta),
            partial(self.outputs, meta),
            learn,
            partial(self.resume, meta),
        )
        outcome = self.judge(meta, path[-1], query)
        return outcome._replace(
            measured={**outcome.measured, **measure(learned)},
            penalties={**outcome.penalties, **self.penalties(meta, support, path)},
        )

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Evaluate on the query set before the first and after each inner step: T = 1 + the number of steps."""
        # at every step: methods are tested with more inner steps than they were trained with (Finn et al. 2017)
        path = self.trajectory(meta, support, self.steps_in_evaluation())
        outcomes = [self.judge(meta, adapted, query) for adapted in path]
        return Outcome(
            loss=torch.stack([outcome.loss for outcome in outcomes]),
            predictions=torch.stack([outcome.predictions for outcome in outcomes]),
            measured={
                name: torch.stack([outcome.measured[name] for outcome in outcomes]) for name in outcomes[0].measured
            },
        )

    def learn(self, meta: Params, support: Labelled, ways: int) -> Params:
        """Return the adapted parameters of one task."""
        return self.trajectory(meta, support, self.steps_in_evaluation())[-1]

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's predictions for inputs ``[n, ...]``, with the adapted parameters ``state``."""
        return self.outputs(meta, state, x)

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Refuse a task whose number of classes or outputs differs from the network's."""
        outputs = self.outputs_at_start(meta, support)
        if ways == 0:
            check_targets(outputs, support.y)
        elif outputs.shape[-1] != ways:
            raise UserError(
                f"the support set has {ways} classes, but the network {outputs.shape[-1]} outputs: a "
                f"{type(self).__name__} learns tasks of as many classes as it was trained with (data.ways)"
            )

    def outputs_at_start(self, meta: Params, support: Labelled) -> Tensor:
        """Return the outputs ``[S, ...]`` on the support set before any inner step."""
        # a label outside the network's classes would be an index out of range before the check can report it
        unlabelled = support._replace(y=torch.zeros_like(support.y))
        return self.outputs(meta, self.start(meta, unlabelled)[0], support.x)

    def trajectory(self, meta: Params, support: Labelled, steps: int, start: Start | None = None) -> list[Params]:
        """Return the adapted parameters of one task before the first and after each of ``steps`` inner steps."""
        step = checkpointed(self.inner_step) if self.checkpoint_steps else self.inner_step
        # in half precision the inner gradients can underflow: loss scaling acts on the meta-gradient alone
        with nullcontext() if self.inner_autocast else without_autocast(tree_leaves(support)[0].device):
            adapted, state = (start or self.start)(meta, support)
            path = [adapted]
            for _ in range(steps):
                adapted, state = step(meta, support, adapted, state)
                path.append(adapted)
        return path

    def resume(self, meta: Params, adapted: Params, examples: Labelled, steps: int) -> list[Params]:
        """Return the trajectory of ``steps`` further inner steps on ``examples``, from already adapted parameters."""
        # the state of the update rule starts over
        return self.trajectory(
            meta, examples, steps, start=lambda meta, examples: (adapted, self.start(meta, examples)[1])
        )

    def inner_gradient(
        self, meta: Params, support: Labelled, adapted: Params, loss: Loss | None = None
    ) -> tuple[Params, Tensor]:
        """Return the gradient of one task's support loss, and the loss; both detached if ``first_order``.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: the support set.
            adapted: the task's adapted parameters.
            loss: ``loss(adapted, support)``, 0-d; default: the mean support loss.
        """
        loss = loss or partial(self.loss, meta)
        gradient, value = gradient_and_value(loss, adapted, support, higher=not self.first_order)
        if self.first_order:
            return detached(gradient), value.detach()
        return gradient, value

    def update(self, meta: Params, gradient: Params, state: Any, adapted: Params, loss: Tensor) -> tuple[Params, Any]:
        """Apply the update rule, with its meta-parameters if it has any."""
        rule = scope(meta, "update_rule")
        return functional_call(self.update_rule, rule, (gradient, state, adapted, loss))  # type: ignore[no-any-return]

    def loss(self, meta: Params, adapted: Params, examples: Labelled) -> Tensor:
        """Return one task's mean loss on ``examples``."""
        return task_loss(self.outputs(meta, adapted, examples.x), examples.y, examples.mask)

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return loss and predictions on the query set; a method may add measurements and penalties."""
        predictions = self.outputs(meta, adapted, query.x)
        return Outcome(task_loss(predictions, query.y, query.mask), predictions)

    def steps_in_evaluation(self) -> int:
        """Return the number of inner steps in validation, testing and prediction."""
        return self.inner_steps if self.eval_inner_steps is None else self.eval_inner_steps

    def setting(self) -> dict[str, Any]:
        """Add the settings of the inner loop and the objective to the reported settings."""
        return {
            **super().setting(),
            "inner_steps": self.steps_in_evaluation(),
            "adapted": list(self.adapted),
            "first_order": self.first_order,
            "objective": type(self.objective).__name__,
        }
