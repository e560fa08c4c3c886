"""Learning to reinforcement learn: RL^2 (Duan et al. 2016, https://arxiv.org/abs/1611.02779), section 2.2.

    1  initialise theta
    2  while not done
    3      sample tasks T_b                                                                     (data module)
    4      for each T_b: act in trials of several episodes with a recurrent policy, which receives observation, last
           action, last reward and whether an episode begins, and keeps its memory within a trial
    5      theta <- a step of the outer optimiser on the return of whole trials

There are no inner steps: the policy learns a task in its memory.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit.algorithms.reinforcement.base import Experience, PolicyLearner
from metalit.algorithms.reinforcement.rollouts import Trajectories
from metalit.episode import Episode, Labelled, TaskBatch
from metalit.errors import UserError, at_least
from metalit.networks.policies import RecurrentPolicy
from metalit.objectives import Measure, measure_nothing
from metalit.outcome import Outcome
from metalit.tasks.method_call import functional_call
from metalit.tasks.parameters import Params, scope


class RL2(PolicyLearner):
    """A recurrent policy that learns a task from its own experience, within a trial.

    ``data.train_queries`` and ``data.queries`` are the trials of a task; ``shots`` are not used.

    Args:
        network: the policy, a ``RecurrentPolicy``.
        episodes: episodes of a trial, >= 1; a bandit's trial is one episode of as many pulls as its horizon.
        **learner: the settings of ``PolicyLearner``.

    Raises:
        UserError: the network is not recurrent.
    """

    def __init__(self, network: nn.Module, episodes: int = 2, **learner: Any) -> None:
        if not isinstance(network, RecurrentPolicy):
            raise UserError(
                f"RL2 learns a task in the memory of its policy, but model.network is {type(network).__name__}: use "
                "metalit.networks.RecurrentPolicy"
            )
        super().__init__(network, **learner)
        at_least(1, episodes=episodes)
        self.episodes = episodes

    @property
    def recurrent(self) -> RecurrentPolicy:
        """The network, as what it is."""
        assert isinstance(self.network, RecurrentPolicy)
        return self.network

    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Return minus the importance-weighted advantage over whole trials."""
        return self.improvement(functional_call(self.network, scope(meta, "network"), (query.x,)), query)

    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return the outcome as a single stage, T = 1."""
        outcome = self.task(meta, support, query, ways)
        return Outcome(outcome.loss[None], outcome.predictions[None])

    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the memory after trials ``[n, T, inputs]``, a pytree ``[n, ...]``."""
        return self.recurrent.read(support.x)[1]

    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return distributions for the next inputs ``[n, inputs]`` of these trials."""
        return self.recurrent.step(x, state)[0]

    def experience(self, tasks: TaskBatch, training: bool) -> Experience:
        """Act in trials; ``returns`` are those of the first, second, ... episode of a trial."""
        seen = self.trials(tasks, self.data.train_queries if training else self.data.queries)
        trials = self.labelled(seen)
        by_episode = [part.sum(dim=-1).mean(dim=-1) for part in seen.rewards.chunk(self.episodes, dim=-1)]
        return Experience(Episode(trials, trials, tasks.index), torch.stack(by_episode, dim=1))

    @torch.no_grad()
    def trials(self, tasks: TaskBatch, count: int) -> Trajectories:
        """Return ``count`` trials of each task; ``observations`` are the policy's inputs, H the steps of a trial."""
        environment, draws, steps = self.data.environment, self.draws(tasks), []
        memory, action, reward = None, None, None
        for _ in range(self.episodes):
            state, alive = environment.begin(tasks.parameters, count, draws), None
            for number in range(environment.horizon):
                observed = environment.observe(tasks.parameters, state)
                alive = torch.ones_like(observed[..., 0], dtype=torch.bool) if alive is None else alive
                inputs = self.inputs(observed, action, reward, first=number == 0)
                memory = self.recurrent.begin(inputs) if memory is None else memory
                distribution, memory = self.recurrent.step(inputs, memory)
                action = self.policy.sample(distribution, draws)
                state, reward, done = environment.step(tasks.parameters, state, action, draws)
                reward = reward * alive
                steps.append((inputs, action, reward, distribution, self.policy.log_prob(distribution, action), alive))
                alive = alive & ~done
        return Trajectories(*(torch.stack(part, dim=2) for part in zip(*steps, strict=True)))

    def inputs(self, observed: Tensor, action: Tensor | None, reward: Tensor | None, first: bool) -> Tensor:
        """Return observation, last action, last reward and whether an episode begins, ``[B, n, inputs]``."""
        space = self.data.environment.action_space
        if action is None:
            taken = observed.new_zeros(*observed.shape[:-1], space.size)
        else:
            taken = F.one_hot(action, space.size).to(observed.dtype) if space.discrete else action
        paid = torch.zeros_like(observed[..., :1]) if reward is None else reward[..., None]
        return torch.cat([observed, taken, paid, torch.full_like(paid, float(first))], dim=-1)

    def setting(self) -> dict[str, Any]:
        """Add the episodes of a trial."""
        return {**super().setting(), "episodes_per_trial": self.episodes}
