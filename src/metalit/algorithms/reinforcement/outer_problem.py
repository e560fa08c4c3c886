"""Loss and divergence of adapted policies as functions of the meta-parameters, on given trajectories."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor
from torch.func import grad, vjp

from metalit.engine import Engine, Task
from metalit.episode import Episode, Steps
from metalit.functional.policy_gradient import mean_over_steps
from metalit.networks.policies import Policy
from metalit.objectives import Objective
from metalit.outcome import Outcome
from metalit.ranks import mean_over_ranks
from metalit.tasks.parameters import Params


class OuterProblem:
    """What a trust region step must know of a batch of tasks, over all ranks.

    Args:
        engine: runs the tasks.
        task: the function of one task: adapt on its support trajectories, then judge on its query trajectories.
        objective: turns the outcomes of this rank's tasks into the loss.
        policy: compares distributions.
        parameters: the meta-parameters before the step, by name.
        buffers: by name.
        keys: ``[B]``, the tasks' random keys.
        episode: the trajectories.
    """

    def __init__(
        self,
        engine: Engine,
        task: Task,
        objective: Objective,
        policy: Policy,
        parameters: Params,
        buffers: Params,
        keys: Tensor,
        episode: Episode,
    ) -> None:
        # derivatives are taken over vmap here, which the learner has found to be right for its layers
        self._outcome = partial(replace(engine, differentiate="over").map, task)
        self._rest = buffers, keys, episode
        self._objective, self._policy, self._steps = objective, policy, episode.query.y
        with torch.no_grad():
            self._before = self.outcome({name: value.detach() for name, value in parameters.items()}).predictions

    def outcome(self, parameters: Params) -> Outcome:
        """Return the outcomes of all tasks."""
        return self._outcome(parameters, *self._rest)

    def divergence(self, outcome: Outcome) -> Tensor:
        """Return KL(before || now) of the adapted policies, a mean over the steps of each task and over tasks; 0-d."""
        steps: Steps = self._steps  # type: ignore[assignment]
        each = self._policy.divergence(self._before, outcome.predictions)
        return torch.func.vmap(mean_over_steps)(each, steps.mask).mean()

    @torch.no_grad()
    def evaluate(self, parameters: Params) -> tuple[float, float]:
        """Return the loss that the gradient is of, with the method's own terms, and the divergence."""
        outcome = self.outcome(parameters)
        both = mean_over_ranks({"loss": self._objective.total(outcome), "divergence": self.divergence(outcome)})
        return both["loss"].item(), both["divergence"].item()

    def divergence_product(self, parameters: Params) -> Callable[[Params], Params]:
        """Return the product of the divergence's Hessian with a vector."""

        def divergence(now: Params) -> Tensor:
            return self.divergence(self.outcome(now))

        product = vjp(grad(divergence), parameters)[1]

        def of(vector: Params) -> Params:
            return mean_over_ranks(product(vector)[0])

        return of
