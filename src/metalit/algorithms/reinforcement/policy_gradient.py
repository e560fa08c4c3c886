"""Gradient-based meta-reinforcement learning: adapt a policy to a task by a few policy gradient steps.

Legend: B tasks, n trajectories of each, H time steps, S the length of an observation, K inner steps.
"""

from abc import ABC
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.utils._pytree import tree_map

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.reinforcement.base import Experience, PolicyLearner, steps_of
from metalit.algorithms.reinforcement.rollouts import Trajectories, roll_out
from metalit.episode import Episode, Labelled, TaskBatch
from metalit.errors import check, not_negative, positive
from metalit.functional.policy_gradient import Surrogate, mean_over_steps, score_function_loss
from metalit.outcome import Outcome
from metalit.ranks import mean_over_ranks
from metalit.tasks.keyed_draws import KeyedDraws
from metalit.tasks.parameters import Params
from metalit.update_rules import UpdateRule


class PolicyGradientMetaLearner(PolicyLearner, GradientBasedMetaLearner, ABC):
    """Adapts a policy by policy gradient steps, each on trajectories of the policy before it.

    The support set of a task has an axis for the inner steps: ``x [K, n, H, S]`` and ``Steps``.

    Args:
        network: the policy.
        update_rule: turns a policy gradient into an inner step.
        surrogate: of the inner policy gradient; see ``score_function_loss``.
        later_steps: factor of the inner gradient from the second inner step on; 0.5 in the authors' code of MAML.
        exploration: weight of E-MAML's term, >= 0: credit of the trajectories before adaptation for the return after it
            (Stadie et al. 2018, https://arxiv.org/abs/1803.01118, equation 7).
        divergence: weight of ProMP's penalty, >= 0: KL from the policies that drew the trajectories before adaptation;
            0 with trust region steps.
        **learner: the settings of ``PolicyLearner`` and ``GradientBasedMetaLearner``.

    Raises:
        UserError: the network is no policy.
        SettingError: a number is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        update_rule: UpdateRule,
        surrogate: Surrogate = "low_variance",
        later_steps: float = 0.5,
        exploration: float = 0.0,
        divergence: float = 0.0,
        **learner: Any,
    ) -> None:
        super().__init__(network, update_rule=update_rule, **learner)
        self.surrogate, self.later_steps = surrogate, positive("later_steps", later_steps)
        self.exploration = not_negative("exploration", exploration)
        self.divergence = not_negative("divergence", divergence)
        # at the parameters before a step the penalty and its gradient are 0
        alone = divergence == 0 or self.max_divergence is None
        check("divergence", divergence, alone, "0 with trust region steps (max_divergence), which it cannot change")

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return the parameters before the first inner step; the state counts the steps, as each has its own data."""
        adapted, state = self.first_parameters(meta)
        return adapted, (0, state)

    def first_parameters(self, meta: Params) -> tuple[Params, Any]:
        """Return a task's parameters before the first inner step, and the state of the update rule."""
        network = {name: meta[f"network.{name}"] for name in self.adapted_names}
        return network, self.update_rule.init(network)

    def policy_gradient_step(self, meta: Params, support: Labelled, adapted: Params, state: Any) -> tuple[Params, Any]:
        """Return the adapted parameters after the next inner step, on its own trajectories of ``support``."""
        number, rule = state
        part = tree_map(lambda leaf: leaf[number], support)
        adapted, rule = self.updated(meta, part, adapted, rule, number)
        return adapted, (number + 1, rule)

    def updated(self, meta: Params, part: Labelled, adapted: Params, rule: Any, number: int) -> tuple[Params, Any]:
        """Return one task's parameters and the state of the update rule after inner step ``number``, from 0."""
        gradient, loss = self.inner_gradient(meta, part, adapted)
        if number > 0:
            gradient = {name: self.later_steps * value for name, value in gradient.items()}
        return self.update(meta, gradient, rule, adapted, loss)

    def loss(self, meta: Params, adapted: Params, examples: Labelled) -> Tensor:
        """Return a loss whose gradient is minus the policy gradient."""
        steps = steps_of(examples)
        log_probs = self.policy.log_prob(self.outputs(meta, adapted, examples.x), steps.actions)
        return score_function_loss(log_probs, steps.advantages, steps.mask, self.surrogate)

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return minus the importance-weighted advantage of the adapted policy, and its distributions."""
        return self.improvement(self.outputs(meta, adapted, query.x), query)

    def penalties(self, meta: Params, support: Labelled, path: list[Params]) -> Params:
        """Return the terms of E-MAML and ProMP, if they have a weight."""
        terms: Params = {}
        if self.exploration and self.inner_steps:
            terms["exploration"] = -self.exploration * self.over_steps(meta, support, path, self.credit)
        if self.divergence and self.inner_steps:
            terms["divergence"] = self.divergence * self.over_steps(meta, support, path, self.moved)
        return terms

    def over_steps(self, meta: Params, support: Labelled, path: list[Params], measure: Any) -> Tensor:
        """Return the mean of a measure over the inner steps, of the policies that drew their trajectories."""
        values = []
        for number in range(self.inner_steps):
            part = tree_map(lambda leaf, number=number: leaf[number], support)
            values.append(measure(self.outputs(meta, path[number], part.x), part))
        return torch.stack(values).mean()

    def credit(self, distribution: Tensor, part: Labelled) -> Tensor:
        """Return the log-probability of the actions per step, times the return after adaptation; 0-d."""
        steps = steps_of(part)
        return mean_over_steps(self.policy.log_prob(distribution, steps.actions) * steps.credit, steps.mask)

    def moved(self, distribution: Tensor, part: Labelled) -> Tensor:
        """Return the divergence from the distributions that the actions were drawn from, per step; 0-d."""
        steps = steps_of(part)
        return mean_over_steps(self.policy.divergence(steps.distributions, distribution), steps.mask)

    @torch.no_grad()
    def experience(self, tasks: TaskBatch, training: bool) -> Experience:
        """Let the policy act and adapt in every task; ``returns`` are before the first and after each inner step."""
        data = self.data
        steps = self.inner_steps if training else self.steps_in_evaluation()
        shots, queries = (data.train_shots, data.train_queries) if training else (data.shots, data.queries)
        meta, draws, count = self.tensors(), self.draws(tasks), len(tasks.index)
        first = tree_map(lambda leaf: leaf.expand(count, *leaf.shape), self.first_parameters(meta))
        adapted, rule = first
        support, returns = [], []
        for number in range(steps):
            seen = self.trajectories(meta, adapted, tasks, shots, draws)
            support.append(self.labelled(seen))
            returns.append(seen.returns)
            adapted, rule = vmap(partial(self.updated, meta, number=number))(support[-1], adapted, rule)
        last = self.trajectories(meta, adapted, tasks, queries, draws)
        query = self.labelled(last)
        if training and self.exploration:  # all ranks take part in it, and evaluation has unequally many batches
            support = [self.credited(part, last.returns) for part in support]
        parts = support or [query]
        episode = Episode(tree_map(lambda *leaves: torch.stack(leaves, dim=1), *parts), query, tasks.index)
        return Experience(episode, torch.stack([*returns, last.returns], dim=1))

    def credited(self, part: Labelled, returns: Tensor) -> Labelled:
        """Return trajectories with the standardised return after adaptation ``[B]`` as their credit."""
        moments = mean_over_ranks({"mean": returns.mean(), "square": returns.square().mean()})
        variance = moments["square"] - moments["mean"].square()
        credit = (returns - moments["mean"]) / (variance.clamp(min=0) + 1e-8).sqrt()
        steps = steps_of(part)
        return part._replace(y=steps._replace(credit=credit[:, None, None].expand(steps.credit.shape)))  # type: ignore[arg-type]

    def trajectories(
        self, meta: Params, adapted: Params, tasks: TaskBatch, count: int, draws: KeyedDraws
    ) -> Trajectories:
        """Return ``count`` trajectories of each task's adapted policy."""
        act = partial(vmap(partial(self.outputs, meta)), adapted)
        return roll_out(self.data.environment, self.policy, act, tasks.parameters, count, draws)

    def setting(self) -> dict[str, Any]:
        """Add the settings of the inner policy gradient."""
        own = {"surrogate": self.surrogate, "later_steps": self.later_steps}
        return {**super().setting(), **own, "exploration": self.exploration, "divergence": self.divergence}
