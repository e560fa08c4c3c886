"""Tasks of reinforcement learning: settings of an environment, in which the learner gathers its own examples."""

from typing import Any

import torch

from metalit.data.module import EpisodicDataModule
from metalit.data.stream import Split, numbers, random_words, uniform
from metalit.environments import Environment, LiveEnvironment
from metalit.episode import TaskBatch
from metalit.errors import check


class EnvironmentStream:
    """A stream of tasks; task i is a pure function of (seed, split, i)."""

    def __init__(self, environment: Environment, *, split: Split, seed: int) -> None:
        self.environment, self.split, self.seed = environment, split, seed

    def __call__(self, first: int, count: int) -> TaskBatch:
        """Return tasks ``first .. first+count-1``."""
        words = random_words(self.seed, self.split, first, count, self.environment.numbers_per_task)
        given = torch.from_numpy(uniform(words)).to(torch.get_default_dtype())
        return TaskBatch(self.environment.parameters(given), numbers(first, count))


class EnvironmentTasks(EpisodicDataModule):
    """Tasks drawn from an environment's distribution; validation and test tasks are fixed.

    Args:
        environment: the environment.
        shots: trajectories before each inner step.
        queries: trajectories after the last inner step.
        test_environment: the same kind of environment, with another distribution of tasks, from which test tasks are
            drawn; if not given, they are drawn as the others. All tasks run in ``environment``.
        **episodes: the settings of ``EpisodicDataModule``.

    Raises:
        SettingError: ``test_environment`` is of another kind, or a number is out of range.
    """

    def __init__(
        self,
        environment: Environment,
        shots: int = 20,
        queries: int = 20,
        test_environment: Environment | None = None,
        **episodes: Any,
    ) -> None:
        super().__init__(shots=shots, queries=queries, **episodes)
        self.environment = environment
        self.test_environment = environment if test_environment is None else test_environment
        kind, other = type(environment), type(self.test_environment)
        check("test_environment", other.__name__, kind is other, f"{kind.__name__}, as environment is")

    def make_stream(self, split: Split) -> EnvironmentStream:  # type: ignore[override]
        """Return the stream of tasks of a split."""
        drawn_from = self.test_environment if split == "test" else self.environment
        return EnvironmentStream(drawn_from, split=split, seed=self.seed)

    def teardown(self, stage: str) -> None:
        """End what an environment keeps running."""
        if isinstance(self.environment, LiveEnvironment):
            self.environment.close()
