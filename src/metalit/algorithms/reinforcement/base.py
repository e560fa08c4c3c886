"""Gradient-based meta-reinforcement learning: adapt a policy to a task by a few policy gradient steps.

Legend: B tasks, n trajectories of each, H time steps, S the length of an observation, P the parameters of a
distribution over actions, K inner steps.
"""

from abc import ABC
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.func import vmap
from torch.utils._pytree import tree_map

from metalit.algorithms.gradient.base import GradientBasedMetaLearner
from metalit.algorithms.reinforcement.outer_problem import OuterProblem
from metalit.algorithms.reinforcement.repeated_steps import repeated
from metalit.algorithms.reinforcement.rollouts import Trajectories, roll_out
from metalit.algorithms.reinforcement.trust_region import TrustRegion
from metalit.engine.certified import uncertified
from metalit.environments import Environment
from metalit.episode import Episode, Labelled, Steps, TaskBatch
from metalit.errors import UserError, at_least, check, positive
from metalit.functional.policy_gradient import (
    Surrogate,
    discounted_sums,
    generalised_advantages,
    likelihood_ratio_loss,
    linear_baseline,
    mean_over_steps,
    score_function_loss,
    standardised,
)
from metalit.networks.policies import Policy
from metalit.outcome import Outcome
from metalit.tasks.keyed_draws import KeyedDraws
from metalit.tasks.parameters import Params
from metalit.update_rules import UpdateRule


class Experience(NamedTuple):
    """What a batch of tasks was learned from.

    Attributes:
        episode: support: ``x [B, K, n, H, S]`` and ``Steps`` of every inner step, which follow one another; query: ``x
            [B, n, H, S]`` and ``Steps`` after the last one.
        returns: ``[B, K + 1]``, mean undiscounted return before the first and after each inner step.
    """

    episode: Episode
    returns: Tensor


class PolicyGradientMetaLearner(GradientBasedMetaLearner, ABC):
    """Adapts a policy by policy gradient steps, each on trajectories of the policy before it.

    Args:
        network: the policy.
        update_rule: turns a policy gradient into an inner step.
        surrogate: of the inner policy gradient; see ``score_function_loss``.
        discount: gamma, in [0, 1].
        trace: lambda of the advantage estimates, in [0, 1].
        later_steps: factor of the inner gradient from the second inner step on; 0.5 in the authors' code of MAML.
        max_divergence: the outer loop takes trust region steps of this mean KL divergence; None for ``optimizer``.
        clip: epsilon of PPO's clipped objective in the outer loop; not clipped if not given.
        epochs: outer steps on the same trajectories; more than one with ``optimizer`` only, and better with ``clip``.
        **learner: the settings of ``GradientBasedMetaLearner``.

    Raises:
        UserError: the network is no policy.
        SettingError: a number is out of range.
    """

    def __init__(
        self,
        network: Policy,
        update_rule: UpdateRule,
        surrogate: Surrogate = "low_variance",
        discount: float = 0.99,
        trace: float = 1.0,
        later_steps: float = 0.5,
        max_divergence: float | None = 0.01,
        clip: float | None = None,
        epochs: int = 1,
        **learner: Any,
    ) -> None:
        if not isinstance(network, Policy):
            raise UserError(
                f"model.network is {type(network).__name__}, but reinforcement learning needs a policy: wrap it in "
                "metalit.networks.GaussianPolicy or CategoricalPolicy"
            )
        super().__init__(network, update_rule, **learner)
        check("discount", discount, 0 <= discount <= 1, "in [0, 1]")
        check("trace", trace, 0 <= trace <= 1, "in [0, 1]")
        at_least(1, epochs=epochs)
        check("epochs", epochs, epochs == 1 or max_divergence is None, "1 with trust region steps (max_divergence)")
        self.surrogate, self.discount, self.trace, self.clip = surrogate, discount, trace, clip
        self.max_divergence, self.epochs, self.later_steps = (
            max_divergence,
            epochs,
            positive("later_steps", later_steps),
        )
        self._gathered: tuple[Any, Experience] | None = None  # a batch, and what was experienced in it
        self._problem: OuterProblem | None = None
        self._tasks: tuple[Any, ...] = ()  # the data module; in a tuple, as it is no part of the learner

    @property
    def policy(self) -> Policy:
        """The network, as what it is."""
        assert isinstance(self.network, Policy)
        return self.network

    def prepare(self, data: object) -> None:
        """Keep the data module, whose environment the learner acts in.

        Raises:
            UserError: the data have no environment, or one whose actions the policy cannot take.
        """
        super().prepare(data)
        environment = getattr(data, "environment", None)
        if not isinstance(environment, Environment):
            raise UserError(
                f"{type(self).__name__} learns in environments, but data is {type(data).__name__}: use "
                "metalit.data.EnvironmentTasks"
            )
        if environment.action_space.discrete != self.policy.discrete:
            kinds = {True: ("discrete", "CategoricalPolicy"), False: ("continuous", "GaussianPolicy")}
            needed, fitting = kinds[environment.action_space.discrete]
            raise UserError(
                f"the actions of {type(environment).__name__} are {needed}, but those of "
                f"{type(self.network).__name__} {kinds[self.policy.discrete][0]}: use {fitting}"
            )
        self._tasks = (data,)

    def gathered(self, batch: TaskBatch) -> Episode:
        """Return what the adapting policy experiences in the tasks; once per batch, however often it steps on it."""
        if self._gathered is None or self._gathered[0] is not batch:
            (data,) = self._tasks
            self._gathered = batch, self.experience(batch, self.inner_steps, data.train_shots, data.train_queries)
        episode = self._gathered[1].episode
        if self.max_divergence is not None:
            task = self.training_task(episode.support, self.objective, self.current_epoch)
            parts = self.meta()
            self._problem = OuterProblem(self.settled_engine(), task, self.policy, *parts, self.keys(episode), episode)
        return episode

    def training_values(self, outcome: Outcome, episode: Episode) -> dict[str, Tensor]:
        """Return the mean return before and after adaptation, and the entropy of the adapted policy."""
        assert self._gathered is not None
        returns = self._gathered[1].returns
        steps: Steps = episode.query.y  # type: ignore[assignment]
        entropy = vmap(mean_over_steps)(self.policy.entropy(outcome.predictions), steps.mask)
        return {"return": returns[:, -1], "return_before_adaptation": returns[:, 0], "entropy": entropy}

    def evaluation_values(self, batch: TaskBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the return before the first and after each inner step ``[B, T]``, and the last one."""
        (data,) = self._tasks
        returns = self.experience(batch, self.steps_in_evaluation(), data.shots, data.queries).returns
        return {"return": returns}, returns[:, -1]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the outer optimiser: trust region steps, or the one that was chosen."""
        if self.max_divergence is None:
            made = super().configure_optimizers()
            return made if self.epochs == 1 else repeated(made, self.epochs)
        if (reason := uncertified(self)) is not None:
            raise UserError(
                f"trust region steps need third derivatives, not known to be right for this policy ({reason}): set "
                "model.max_divergence to null, and model.optimizer"
            )
        trained = {name: value for name, value in self.named_parameters() if value.requires_grad}
        return TrustRegion(trained, self.problem, self.max_divergence)

    def problem(self) -> OuterProblem:
        """Return loss and divergence on the trajectories of the current batch."""
        assert self._problem is not None
        return self._problem

    def ways_of(self, support: Labelled) -> int:
        """Return 0: there are no classes."""
        return 0

    def start(self, meta: Params, support: Labelled) -> tuple[Params, Any]:
        """Return the parameters before the first inner step; the state counts the steps, as each has its own data."""
        adapted, state = super().start(meta, support)
        return adapted, (0, state)

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
        steps: Steps = examples.y  # type: ignore[assignment]
        log_probs = self.policy.log_prob(self.outputs(meta, adapted, examples.x), steps.actions)
        return score_function_loss(log_probs, steps.advantages, steps.mask, self.surrogate)

    def judge(self, meta: Params, adapted: Params, query: Labelled) -> Outcome:
        """Return minus the importance-weighted advantage of the adapted policy, and its distributions."""
        steps: Steps = query.y  # type: ignore[assignment]
        distribution = self.outputs(meta, adapted, query.x)
        log_probs = self.policy.log_prob(distribution, steps.actions)
        loss = likelihood_ratio_loss(log_probs, steps.log_probs, steps.advantages, steps.mask, self.clip)
        return Outcome(loss, distribution)

    @torch.no_grad()
    def experience(self, tasks: TaskBatch, steps: int, shots: int, queries: int) -> Experience:
        """Let the policy act and adapt in every task.

        Args:
            tasks: the tasks.
            steps: K.
            shots: n, trajectories before each inner step.
            queries: trajectories after the last one.
        """
        meta = self.tensors()
        dtype = next(iter(meta.values())).dtype if not self.may_adapt else meta[f"network.{self.may_adapt[0]}"].dtype
        draws = KeyedDraws(self.task_keys(tasks), dtype)
        count = len(tasks.index)
        adapted, (_, rule) = self.start(meta, None)  # type: ignore[arg-type]  # no support set yet
        adapted = {name: value.expand(count, *value.shape) for name, value in adapted.items()}
        rule = tree_map(lambda leaf: leaf.expand(count, *leaf.shape), rule)
        support, returns = [], []
        for number in range(steps):
            seen = self.trajectories(meta, adapted, tasks, shots, draws)
            support.append(self.labelled(seen))
            returns.append(seen.returns)
            adapted, rule = self.all_adapted(meta, support[-1], adapted, rule, number)
        last = self.trajectories(meta, adapted, tasks, queries, draws)
        together = tree_map(lambda *leaves: torch.stack(leaves, dim=1), *support) if support else self.labelled(last)
        episode = Episode(together, self.labelled(last), tasks.index)
        return Experience(episode, torch.stack([*returns, last.returns], dim=1))

    def all_adapted(
        self, meta: Params, support: Labelled, adapted: Params, rule: Any, number: int
    ) -> tuple[Params, Any]:
        """Return the parameters and states of all tasks after one more inner step, on ``x [B, n, H, S]``."""
        of_one = partial(self.updated, meta, number=number)
        return vmap(of_one)(support, adapted, rule)

    def trajectories(
        self, meta: Params, adapted: Params, tasks: TaskBatch, count: int, draws: KeyedDraws
    ) -> Trajectories:
        """Return ``count`` trajectories of each task's adapted policy."""
        act = partial(vmap(partial(self.outputs, meta)), adapted)
        (data,) = self._tasks
        return roll_out(data.environment, self.policy, act, tasks.parameters, count, draws)

    def labelled(self, seen: Trajectories) -> Labelled:
        """Return trajectories as labelled examples, with standardised advantages."""
        returns = discounted_sums(seen.rewards, self.discount)
        values = linear_baseline(seen.observations, returns, seen.mask)
        advantages = generalised_advantages(seen.rewards, values, seen.mask, self.discount, self.trace)
        steps = Steps(seen.actions, standardised(advantages, seen.mask), seen.log_probs, seen.mask)
        return Labelled(seen.observations, steps)  # type: ignore[arg-type]

    def task_keys(self, tasks: TaskBatch) -> Tensor:
        """Return the random key of each task, ``[B]`` int64: a function of the learner's seed and the task's index."""
        return (self.task_seed << 32) + tasks.index

    def setting(self) -> dict[str, Any]:
        """Add the settings of the policy gradient."""
        return {**super().setting(), "surrogate": self.surrogate, "discount": self.discount, "trace": self.trace}
