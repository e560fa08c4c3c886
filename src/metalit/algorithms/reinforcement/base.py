"""Learners that gather their own examples by acting in environments.

Legend: B tasks, n trajectories of each, H time steps, S the length of an observation, P the parameters of a
distribution over actions, T stages of learning a task.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn, cast

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.func import vmap

from metalit.algorithms.meta_learner import MetaLearner
from metalit.algorithms.reinforcement.outer_problem import OuterProblem
from metalit.algorithms.reinforcement.repeated_steps import repeated
from metalit.algorithms.reinforcement.rollouts import Trajectories
from metalit.algorithms.reinforcement.trust_region import TrustRegion
from metalit.algorithms.takes_over import HasEnvironment
from metalit.engine.certified import uncertified
from metalit.episode import Episode, Labelled, Steps, TaskBatch
from metalit.errors import UserError, at_least, check, not_negative
from metalit.functional.policy_gradient import (
    discounted_sums,
    generalised_advantages,
    likelihood_ratio_loss,
    linear_baseline,
    mean_over_steps,
    standardised,
)
from metalit.networks.policies import Policy
from metalit.outcome import Outcome
from metalit.tasks.keyed_draws import KeyedDraws


class Experience(NamedTuple):
    """What a batch of tasks was learned from.

    Attributes:
        episode: ``Steps`` to learn from and to improve, as the learner defines them.
        returns: ``[B, T]``, mean undiscounted return at each stage of learning, the final one last.
    """

    episode: Episode
    returns: Tensor


class PolicyLearner(MetaLearner, ABC):
    """Improves a policy on its own trajectories. A family implements ``experience``.

    Args:
        network: the policy.
        discount: gamma, in [0, 1].
        trace: lambda of the advantage estimates, in [0, 1].
        max_divergence: the outer loop takes trust region steps of this mean KL divergence; None for ``optimizer``.
        damping: of trust region steps, added to the diagonal of the divergence's Hessian, >= 0. With little of it the
            system is ill-conditioned, and rounding errors, as of another number of ranks, reach the parameters.
        clip: epsilon of PPO's clipped objective in the outer loop; not clipped if not given.
        epochs: outer steps on the same trajectories; more than one with ``optimizer`` only, and better with ``clip``.
        **learner: the settings of ``MetaLearner``.

    Raises:
        UserError: the network is no policy.
        SettingError: a number is out of range.

    Attributes:
        steps_taken: time steps of environments in the last training batch, 0-d.
    """

    of_training = (*MetaLearner.of_training, "_gathered", "_problem", "_data")

    def __init__(
        self,
        network: nn.Module,
        discount: float = 0.99,
        trace: float = 1.0,
        max_divergence: float | None = 0.01,
        damping: float = 1e-5,
        clip: float | None = None,
        epochs: int = 1,
        **learner: Any,
    ) -> None:
        if not isinstance(network, Policy):
            raise UserError(
                f"model.network is {type(network).__name__}, but reinforcement learning needs a policy: wrap it in "
                "metalit.networks.GaussianPolicy or CategoricalPolicy"
            )
        super().__init__(network, **learner)
        check("discount", discount, 0 <= discount <= 1, "in [0, 1]")
        check("trace", trace, 0 <= trace <= 1, "in [0, 1]")
        at_least(1, epochs=epochs)
        check("epochs", epochs, epochs == 1 or max_divergence is None, "1 with trust region steps (max_divergence)")
        self.discount, self.trace = discount, trace
        self.max_divergence, self.damping = max_divergence, not_negative("damping", damping)
        self.clip, self.epochs = clip, epochs
        self._gathered: tuple[TaskBatch, Experience] | None = None
        self._problem: OuterProblem | None = None
        self._data: HasEnvironment | None = None
        self.steps_taken = torch.zeros(())

    @abstractmethod
    def experience(self, tasks: TaskBatch, training: bool) -> Experience:
        """Act and learn in every task; the numbers of trajectories are those of the data for training or evaluation."""

    @property
    def policy(self) -> Policy:
        """The network, as what it is."""
        assert isinstance(self.network, Policy)
        return self.network

    @property
    def data(self) -> HasEnvironment:
        """The data module, whose environment the policy acts in."""
        if self._data is None:
            raise UserError(f"{type(self).__name__} does not know its environment yet: call prepare(data)")
        return self._data

    def prepare(self, data: object) -> None:
        """Keep the data module, whose environment the policy acts in.

        Raises:
            UserError: the data have no environment, or one whose actions the policy cannot take.
        """
        super().prepare(data)
        if not isinstance(data, HasEnvironment):
            raise UserError(
                f"{type(self).__name__} learns in environments, but the data are {type(data).__name__}: use "
                "EnvironmentTasks"
            )
        space = data.environment.action_space
        if space.discrete != self.policy.discrete:
            kinds = {True: ("discrete", "CategoricalPolicy"), False: ("continuous", "GaussianPolicy")}
            needed, fitting = kinds[space.discrete]
            raise UserError(
                f"the actions of {type(data.environment).__name__} are {needed}, but those of "
                f"{type(self.network).__name__} {kinds[self.policy.discrete][0]}: use {fitting}"
            )
        self._data = data

    @contextmanager
    def acting_in(self, data: HasEnvironment) -> Iterator[None]:
        """Act in the environment of other data, such as a copy that is filmed, until the context ends."""
        usual, self._data = self._data, data
        try:
            yield
        finally:
            self._data = usual

    def gathered(self, batch: TaskBatch) -> Episode:
        """Return what the policy experiences in the tasks; once per batch, however often it steps on it."""
        if self._gathered is None or self._gathered[0] is not batch:
            self._gathered = batch, self.experience(batch, training=True)
            self.steps_taken = count_steps(self._gathered[1].episode)
        episode = self._gathered[1].episode
        if self.max_divergence is not None:
            objective = self.objective.at_epoch(self.current_epoch)
            task = self.training_task(episode.support, objective, self.current_epoch)
            engine, keys = self.settled_engine(), self.keys(episode)
            self._problem = OuterProblem(engine, task, objective, self.policy, *self.meta(), keys, episode)
        return episode

    def training_values(self, outcome: Outcome, episode: Episode) -> dict[str, Tensor]:
        """Return the mean return at the first and the last stage of learning, and the entropy of the last policy."""
        assert self._gathered is not None
        returns, steps = self._gathered[1].returns, steps_of(episode.query)
        entropy = vmap(mean_over_steps)(self.policy.entropy(outcome.predictions), steps.mask)
        before = {"return_before_adaptation": returns[:, 0]} if returns.shape[1] > 1 else {}
        return {"return": returns[:, -1], **before, "entropy": entropy}

    def evaluation_values(self, batch: TaskBatch) -> tuple[dict[str, Tensor], Tensor]:
        """Return the return at each stage of learning ``[B, T]``, and the last one."""
        returns = self.experience(batch, training=False).returns
        return {"return": returns}, returns[:, -1]

    def adapt(self, support: Labelled) -> NoReturn:
        """Refuse to learn from given examples: a policy learns from what it does itself.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{type(self).__name__} learns from its own trajectories, not from examples that are given to it: call "
            "experience(tasks, training=False) with tasks of its environment"
        )

    def on_predict_start(self) -> None:
        """Refuse: there are no examples to predict.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"predict writes predictions for examples, but {type(self).__name__} acts in environments: test writes the "
            "return of each task after each step to episodes.csv"
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the outer optimiser: trust region steps, or the one that was chosen.

        Raises:
            UserError: trust region steps are not known to be right for the policy's layers.
        """
        if self.max_divergence is None:
            made = super().configure_optimizers()
            return made if self.epochs == 1 else repeated(made, self.epochs)
        if (reason := uncertified(self)) is not None:
            raise UserError(
                f"trust region steps need third derivatives, not known to be right for this policy ({reason}): set "
                "model.max_divergence to null, and model.optimizer"
            )
        trained = {name: value for name, value in self.named_parameters() if value.requires_grad}
        return TrustRegion(trained, self.problem, self.max_divergence, damping=self.damping)

    def on_train_batch_end(self, *arguments: Any) -> None:
        """Log what a trust region step did: the same on all ranks, which decide on it together."""
        super().on_train_batch_end(*arguments)
        optimizer = self.optimizers(use_pl_optimizer=False)
        if isinstance(optimizer, TrustRegion):
            self.log_dict({f"train/{name}": value for name, value in optimizer.last.items()})

    def problem(self) -> OuterProblem:
        """Return loss and divergence on the trajectories of the current batch."""
        assert self._problem is not None
        return self._problem

    def ways_of(self, support: Labelled) -> int:
        """Return 0: there are no classes."""
        return 0

    def improvement(self, distribution: Tensor, query: Labelled) -> Outcome:
        """Return minus the importance-weighted advantage of distributions ``[n, H, P]``, and these."""
        steps = steps_of(query)
        log_probs = self.policy.log_prob(distribution, steps.actions)
        loss = likelihood_ratio_loss(log_probs, steps.log_probs, steps.advantages, steps.mask, self.clip)
        return Outcome(loss, distribution)

    def labelled(self, seen: Trajectories) -> Labelled:
        """Return trajectories as labelled examples, with standardised advantages."""
        returns = discounted_sums(seen.rewards, self.discount)
        values = linear_baseline(seen.observations, returns, seen.mask)
        advantages = generalised_advantages(seen.rewards, values, seen.mask, self.discount, self.trace)
        scaled = standardised(advantages, seen.mask)
        nothing = advantages.new_zeros(()).expand(advantages.shape)
        steps = Steps(seen.actions, scaled, seen.distributions, seen.log_probs, seen.mask, credit=nothing)
        return Labelled(seen.observations, steps)  # type: ignore[arg-type]

    def draws(self, tasks: TaskBatch) -> KeyedDraws:
        """Return the random numbers of the tasks: a function of the learner's seed and the tasks' index."""
        dtype = next(value.dtype for value in self.tensors().values() if value.is_floating_point())
        return KeyedDraws((self.task_seed << 32) + tasks.index, dtype)

    def setting(self) -> dict[str, Any]:
        """Add the settings of the policy's improvement."""
        own = {"discount": self.discount, "trace": self.trace, "max_divergence": self.max_divergence}
        return {**super().setting(), **own, "clip": self.clip, "epochs": self.epochs}


def steps_of(examples: Labelled) -> Steps:
    """Return the labels of trajectories."""
    return cast(Steps, examples.y)


def count_steps(episode: Episode) -> Tensor:
    """Return the time steps of all trajectories, 0-d; those of trials that are learned from and improved count once."""
    parts = {id(part): steps_of(part).mask.sum() for part in (episode.support, episode.query)}
    return torch.stack(list(parts.values())).sum()
