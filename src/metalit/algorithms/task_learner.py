"""A learner as mathematics: a pure function of (meta-parameters, episode), and the few methods a family implements."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, Self

import lightning as L
import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from metalit.algorithms.before_episodes import check_texts, observe_training_inputs
from metalit.algorithms.padding import refuse_padding
from metalit.algorithms.predictor import Predictor
from metalit.engine import Engine, Task
from metalit.episode import Episode, Labelled
from metalit.errors import UserError
from metalit.functional.examples import count
from metalit.networks.normalisation import batch_norm_mode, batch_norms
from metalit.networks.partly_trained import settings_of_parts
from metalit.objectives import Measure, Objective, measure_nothing
from metalit.outcome import Outcome
from metalit.private import CURRENT_HOOK
from metalit.tasks.parameters import Params, trained_and_fixed
from metalit.tasks.task_context import TaskContext


class TaskLearner(L.LightningModule, ABC):
    """Learns the tasks of an episode; ``MetaLearner`` has it trained by Lightning.

    A family implements ``task``, ``evaluate_task``, ``learn`` and ``predict`` for ONE task. The engine maps the first
    two over a meta-batch; ``adapt`` builds a predictor from the other two.

    Args:
        network: any ``nn.Module`` from inputs ``[n, ...]`` to outputs ``[n, ...]``.
        objective: turns the outcomes of all tasks into the meta-loss.
        engine: how the tasks of a meta-batch are computed.
        frozen_batch_norm: shell-style patterns of batch norms of the network that stay in evaluation mode.
    """

    # attributes used by training alone, which ``evaluation_copy`` leaves out
    of_training: tuple[str, ...] = ()
    # whether the places where a padded episode has no example change nothing; False refuses tasks of unequal size
    honours_masks: bool = False

    def __init__(
        self, network: nn.Module, objective: Objective, engine: Engine, frozen_batch_norm: Sequence[str] = ()
    ) -> None:
        super().__init__()
        self.network, self.objective, self.engine = network, objective, engine
        self.frozen_batch_norm = tuple(frozen_batch_norm)
        # in evaluation mode a batch norm normalises by its running statistics and does not update them
        for module in batch_norms(network, self.frozen_batch_norm).values():
            module.eval()
        # the seed of all randomness within tasks; a buffer, so that a resumed run draws the same dropout masks
        self.task_seed: Tensor
        self.register_buffer("task_seed", torch.randint(2**31, ()))

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; the one that Lightning sets 44 times a step without looking whether it is a parameter."""
        if name == CURRENT_HOOK:
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @abstractmethod
    def task(
        self, meta: Params, support: Labelled, query: Labelled, ways: int, measure: Measure = measure_nothing
    ) -> Outcome:
        """Learn one task from its support set and return the loss and predictions on its query set.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: ``x [S, ...]``, ``y [S, ...]``.
            query: ``x [Q, ...]``, ``y [Q, ...]``.
            ways: N, or 0 in regression. Passed as an int because under ``vmap`` it cannot be read off the labels.
            measure: what the objective measures on a task learned by gradient descent.
        """

    @abstractmethod
    def evaluate_task(self, meta: Params, support: Labelled, query: Labelled, ways: int) -> Outcome:
        """Return one task's outcome at T stages of adaptation, the final one last: loss ``[T]``.

        Entries ``[T]`` of ``measured`` are reported as metrics: a mean over the episodes with a confidence interval.
        """

    @abstractmethod
    def learn(self, meta: Params, support: Labelled, ways: int) -> Any:
        """Return the state learned from one task's support set, a pytree of tensors: all that ``predict`` needs.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            support: ``x [S, ...]``, ``y [S, ...]``.
            ways: N; 0 in regression.
        """

    @abstractmethod
    def predict(self, meta: Params, state: Any, x: Any) -> Tensor:
        """Return one task's predictions for inputs ``[n, ...]``: logits ``[n, N]``, or values ``[n, outputs]``.

        Args:
            meta: meta-parameters and buffers of the whole learner, by name.
            state: the return value of ``learn``.
            x: inputs ``[n, ...]``. The prediction for one should not depend on the others.
        """

    def prepare(self, data: object) -> None:
        """Compute what must be known of the data module's training inputs before the first episode.

        Parts of the network that need statistics of the training inputs, such as idf, observe them, unless training or
        a checkpoint has brought these already.

        Args:
            data: the data module.

        Raises:
            SettingError: an encoder of texts does not fit the tokenizer of the data.
        """
        check_texts(self, data)
        observe_training_inputs(self, data, self.device)

    def decide(self, data: object) -> dict[str, Any]:
        """Prepare, and decide what a test decides on validation classes before its first episode.

        Args:
            data: the data module.

        Returns:
            Settings of the learner that were not given and are chosen now, by name; none by default.
        """
        self.prepare(data)
        return {}

    def check(self, meta: Params, support: Labelled, ways: int) -> None:
        """Raise a ``UserError`` for a task that the method cannot learn; takes the arguments of ``learn``."""

    def adapt(self, support: Labelled) -> Predictor[Self]:
        """Learn ONE task, given without the axis B, in evaluation mode and return its predictor.

        The predictor is a value: it owns a copy of the weights, so further training does not change it. The learner
        stays in its mode.

        Args:
            support: ``x [S, ...]``, images in [0, 1] or uint8, and ``y``: labels ``[S]``, any integers, or values
                ``[S, outputs]``.

        Raises:
            UserError: inputs and labels do not fit together, or the method cannot learn such a task.
        """
        return Predictor(self.evaluation_copy(), support)

    def evaluation_copy(self) -> Self:
        """Return a copy in evaluation mode that shares no memory with this learner and cannot be trained."""
        left_out = [getattr(self, name) for name in self.of_training]
        # a network may store activations as attributes: deepcopy refuses tensors that belong to a graph or to vmap
        for module in self.modules():
            kept = [value for value in tree_leaves(vars(module)) if isinstance(value, Tensor)]
            left_out += [value for value in kept if value.grad_fn is not None or is_functorch_wrapped_tensor(value)]
        # deepcopy takes an object listed in its memo as already copied, here as None
        copy = deepcopy(self, {id(part): None for part in left_out}).eval()
        copy.engine = self.settled_engine()
        return copy

    def ways_of(self, support: Labelled) -> int:
        """Return N, the number of ways of a batch of tasks: the largest support label plus one; 0 in regression."""
        return count_ways(support)

    def transductive(self) -> bool:
        """Whether the prediction for a query depends on the other queries through batch statistics."""
        return batch_norm_mode(*self.predicting()) in ("batch", "mixed")

    def batch_statistics(self) -> list[str]:
        """Return the batch norms that now normalise by the statistics of the examples at hand, by dotted name."""
        return [
            name
            for name, module in self.named_modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None)
        ]

    def predicting(self) -> Sequence[nn.Module]:
        """Return the modules that take part in predictions."""
        return [self.network]

    def setting(self) -> dict[str, Any]:
        """Return the settings of the method that must be reported with a result."""
        return {
            "algorithm": type(self).__name__,
            "batch_norm": batch_norm_mode(*self.predicting()),
            "transductive": self.transductive(),
            **settings_of_parts(self.modules()),
            **({"frozen_batch_norm": list(self.frozen_batch_norm)} if self.frozen_batch_norm else {}),
        }

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all modules except frozen batch norms, which stay in evaluation mode."""
        super().train(mode)
        for module in batch_norms(self.network, self.frozen_batch_norm).values():
            module.eval()
        return self

    def forward(self, episode: Episode) -> Outcome:
        """Return the outcome of every task; differentiable, and free of side effects."""
        return self._outcome(self.training_task(episode.support, self.objective), episode)

    def meta_loss(self, episode: Episode) -> Tensor:
        """Return the scalar that training minimises, in the current epoch."""
        objective = self.objective.at_epoch(self.current_epoch)
        task = self.training_task(episode.support, objective, self.current_epoch)
        return objective.total(self._outcome(task, episode))

    def training_task(self, support: Labelled, objective: Objective, epoch: int | None = None) -> Task:
        """Return ``task`` with the arguments bound that all tasks of a batch share.

        Args:
            support: the support sets of the batch, ``[B, S, ...]``.
            objective: the objective, whose ``measure`` is bound.
            epoch: the training epoch, for methods that change over training; None means after the last epoch.
        """
        return partial(self.task, ways=self.ways_of(support), measure=objective.measure)

    @torch.no_grad()  # torch.func takes inner gradients all the same
    def evaluate(self, episode: Episode) -> Outcome:
        """Return every task's outcome at each stage: loss ``[B, T]``, predictions ``[B, T, Q, ...]``."""
        task = partial(self.evaluate_task, ways=self.ways_of(episode.support))
        return self.settled_engine().map(task, *self.meta(), self.keys(episode), episode)

    def meta(self) -> tuple[Params, Params]:
        """Return (trained meta-parameters, frozen parameters and buffers), by name."""
        return trained_and_fixed(self)

    def has_trained_parameters(self) -> bool:
        """Whether training changes anything: a frozen network with a method that has no parameters needs none."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def tensors(self) -> Params:
        """Return all parameters and buffers, both parts of ``meta`` in one mapping."""
        trained, fixed = self.meta()
        return trained | fixed

    def keys(self, episode: Episode) -> Tensor:
        """Return the random key of each task, ``[B]`` int64; all zero in evaluation, which is deterministic.

        A key depends on the learner's seed and the task's index in its stream alone. It is therefore the same for any
        number of ranks, after a resume, and whenever the same episode comes again.
        """
        tasks = count(episode.query.y)
        if episode.index.shape != (tasks,) or episode.index.dtype != torch.int64:
            raise UserError(
                f"the episode's index is {list(episode.index.shape)} {episode.index.dtype}, but it has "
                f"{tasks} tasks: give each an int64 number, such as torch.arange({tasks})"
            )
        refuse_padding(self, episode)
        if not self.training:
            return torch.zeros_like(episode.index)
        # the seed, 31 bits, fills the upper half of the key, the task's index the lower
        return (self.task_seed << 32) + episode.index

    @contextmanager
    def context(self, buffers: Params | None = None) -> Iterator[TaskContext]:
        """Enter the context that the engine gives a task in evaluation, for learning and predicting one without it.

        Args:
            buffers: the second part of ``meta``; computed if not given.
        """
        key, engine = torch.zeros((), dtype=torch.int64, device=self.device), self.settled_engine()
        buffers = self.meta()[1] if buffers is None else buffers
        # fused attention kernels have no second derivative (docs/guide/gradients.md)
        with sdpa_kernel(SDPBackend.MATH), engine.context(key, buffers) as task:
            yield task

    def settled_engine(self) -> Engine:
        """Return the engine resolved for the network as it is now: a hook or layer may have been added since."""
        return self.engine.settled(self)

    def _outcome(self, task: Task, episode: Episode) -> Outcome:
        if torch.is_grad_enabled():
            self.engine.announce(self)
        return self.settled_engine().map(task, *self.meta(), self.keys(episode), episode)


def count_ways(support: Labelled) -> int:
    """Return N of a support set labelled 0..N-1 (the largest label plus one); 0 in regression."""
    return 0 if support.y.is_floating_point() else int(support.y.max()) + 1
