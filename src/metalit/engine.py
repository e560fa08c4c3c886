"""The engine: what is written for one task, run for a batch of tasks, with the gradient of the whole.

An algorithm supplies a *task*, a pure function ``task(meta, support, query) -> Outcome`` of one task. The engine maps
it over the task axis and differentiates an objective of all outcomes with respect to the meta-parameters.
"""

import os
import shutil
import sysconfig
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import grad_and_value, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from metalit.episode import Episode, Labelled
from metalit.functional.parameters import Params
from metalit.functional.precision import without_autocast
from metalit.functional.task_context import TaskContext
from metalit.objectives import Objective
from metalit.outcome import Outcome
from metalit.ranks import gather_tasks, own_tasks, world_size

Task = Callable[[Params, Labelled, Labelled], Outcome]
Pullback = Callable[[Outcome], Params]


@dataclass(frozen=True)
class Engine:
    """How the tasks of a meta-batch are computed. No setting changes the numbers, only speed and memory.

    Args:
        mapping: ``vmap`` computes all tasks as one vectorised program; ``loop`` one after the other, for networks that
            vmap cannot take (LSTM and GRU with per-task weights).
        chunk_size: at most so many tasks at once; bounds memory in training too, at the price of one more forward
            pass. All at once if not given.
        compile: compile the meta-loss together with its gradient (``torch.compile``); the first step then takes
            longer. Evaluation is not compiled. Without a C++ compiler it warns and goes on uncompiled.
        compile_backend: the backend of ``torch.compile``.
    """

    mapping: Literal["vmap", "loop"] = "vmap"
    chunk_size: int | None = None
    compile: bool = False
    compile_backend: str = "inductor"

    def __post_init__(self) -> None:
        if self.chunk_size is not None and self.chunk_size < 1:
            raise ValueError(f"engine.chunk_size is {self.chunk_size}, but must be at least 1")
        # only then, for the list takes seconds to load
        known = torch.compiler.list_backends(exclude_tags=()) if self.compile else [self.compile_backend]
        if self.compile_backend not in known:
            names = ", ".join(known)
            raise ValueError(f"engine.compile_backend is {self.compile_backend}, but there are {names}")

    def map(self, task: Task, parameters: Params, buffers: Params, keys: Tensor, episode: Episode) -> Outcome:
        """Run every task of an episode.

        Args:
            task: the function of one task.
            parameters: meta-parameters by name.
            buffers: the networks' buffers by name.
            keys: ``[B]`` int64, each task's source of randomness.
            episode: B tasks.

        Returns:
            The outcomes, each leaf with the task axis first.
        """
        size = self.chunk_size or len(keys)
        parts = [
            self._map_at_once(task, parameters, buffers, *part) for part in split_tasks((keys, episode), size)
        ]
        return parts[0] if len(parts) == 1 else tree_map(lambda *leaves: torch.cat(leaves), *parts)

    def meta_gradient(
        self,
        task: Task,
        objective: Objective,
        parameters: Params,
        buffers: Params,
        keys: Tensor,
        episode: Episode,
        scale: Tensor | None = None,
    ) -> tuple[Params, Tensor, Outcome]:
        """Return (gradient of the objective with respect to ``parameters``, its value, the outcomes).

        The chain rule in two phases: the objective's derivative with respect to every task's outcome, then that
        derivative pulled back through the tasks. So an objective may mix tasks, chunks and ranks.

        Args:
            task: the function of one task.
            objective: what is differentiated.
            parameters: meta-parameters by name.
            buffers: the networks' buffers by name.
            keys: ``[B]`` int64, each task's source of randomness.
            episode: B tasks.
            scale: a number that the gradient is multiplied by, against underflow in float16; 1 if not given.
        """
        outcome, pull_back = self._outcome_and_pullback(task, parameters, buffers, keys, episode)
        cotangent, value = derivative(objective, outcome)
        if scale is not None:
            cotangent = tree_map(lambda leaf: leaf * scale, cotangent)
        return pull_back(cotangent), value, outcome

    def compiled_meta_gradient(self) -> Callable[..., tuple[Params, Tensor, Outcome]]:
        """Return ``meta_gradient``, compiled if the engine's setting says so."""
        if not self.compile:
            return self.meta_gradient
        missing = missing_for_inductor() if self.compile_backend == "inductor" else None
        if missing:
            warnings.warn(
                f"engine.compile: {missing} is missing, so nothing is compiled: slower", stacklevel=2
            )
            return self.meta_gradient
        return torch.compile(self.meta_gradient, fullgraph=True, dynamic=False, backend=self.compile_backend)

    def _map_at_once(
        self, task: Task, parameters: Params, buffers: Params, keys: Tensor, episode: Episode
    ) -> Outcome:
        def one_task(key: Tensor, episode: Episode) -> Outcome:
            context = TaskContext(key, buffers)
            # the fused attention kernels have no second derivative
            with sdpa_kernel(SDPBackend.MATH), context:
                outcome = task({**parameters, **buffers}, episode.support, episode.query)
            return outcome._replace(buffers=context.statistics())

        if self.mapping == "vmap":
            return vmap(one_task, randomness="different")(keys, episode)
        outcomes = [one_task(keys[b], tree_map(lambda leaf, b=b: leaf[b], episode)) for b in range(len(keys))]
        return tree_map(lambda *leaves: torch.stack(leaves), *outcomes)  # type: ignore[no-any-return]

    def _outcome_and_pullback(
        self, task: Task, parameters: Params, buffers: Params, keys: Tensor, episode: Episode
    ) -> tuple[Outcome, Pullback]:
        """Return all outcomes, and what turns a derivative with respect to them into one with respect to parameters.

        In chunks, each task is run once more to be differentiated, so that one chunk's graph lives at a time.
        """

        def pull_back_in_chunks(cotangent: Outcome) -> Params:
            gradient = tree_map(torch.zeros_like, parameters)
            for part_keys, part, part_cotangent in split_tasks((keys, episode, cotangent), size):
                _, pull_back = self._differentiate(task, parameters, buffers, part_keys, part)
                gradient = tree_map(torch.add, gradient, pull_back(part_cotangent))
            return gradient  # type: ignore[no-any-return]

        size = self.chunk_size or len(keys)
        if size < len(keys):
            with torch.no_grad():
                return self.map(task, parameters, buffers, keys, episode), pull_back_in_chunks
        return self._differentiate(task, parameters, buffers, keys, episode)

    def _differentiate(
        self, task: Task, parameters: Params, buffers: Params, keys: Tensor, episode: Episode
    ) -> tuple[Outcome, Pullback]:
        run = partial(self._map_at_once, task, buffers=buffers, keys=keys, episode=episode)
        outcome, pullback, *_ = vjp(run, parameters)

        def pull_back(cotangent: Outcome) -> Params:
            with without_autocast(keys.device):  # the forward pass has chosen the precisions
                return pullback(cotangent)[0]  # type: ignore[no-any-return]

        return outcome, pull_back


def derivative(objective: Objective, outcome: Outcome) -> tuple[Outcome, Tensor]:
    """Return (an objective's derivative with respect to the outcomes of this rank's tasks, its value)."""
    if world_size() == 1 or not objective.over_all_tasks:
        return grad_and_value(objective.total)(outcome)
    own = outcome._replace(buffers={})
    cotangent, value = grad_and_value(objective.total)(gather_tasks(own))
    # DDP averages over the ranks what is to be summed
    summed = tree_map(lambda leaf: world_size() * leaf, own_tasks(cotangent))
    return summed._replace(buffers=tree_map(torch.zeros_like, outcome.buffers)), value


def missing_for_inductor() -> str | None:
    """Return what this machine lacks of what torch's compiler needs, or None."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX", "g++"), "clang++", "c++")):
        return "a C++ compiler"
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        return "Python.h (Debian: python3-dev)"
    return None


def split_tasks(tree: Any, size: int) -> list[Any]:
    """Cut a pytree along its task axis into pytrees of at most ``size`` tasks."""
    leaves = torch.utils._pytree.tree_leaves(tree)
    return [
        tree_map(lambda leaf, start=start: leaf[start : start + size], tree)
        for start in range(0, len(leaves[0]), size)
    ]


class FinishedGradient(torch.autograd.Function):
    """A scalar whose backward pass hands out a gradient that is already known.

    So a meta-gradient computed by ``torch.func`` enters Lightning's automatic optimisation like any other: loss
    scaling, clipping, accumulation and the hooks of DDP all see it.
    """

    @staticmethod
    def forward(ctx: Any, value: Tensor, scale: Tensor | None, count: int, *tensors: Tensor) -> Tensor:
        """Return ``value``; ``tensors`` are ``count`` gradients and then the ``count`` parameters they belong to."""
        ctx.scale = scale
        ctx.save_for_backward(value, *tensors[:count])
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the stored gradients times the incoming one, less their own scale."""
        value, *gradients = ctx.saved_tensors
        factor = grad_outputs[0] if ctx.scale is None else grad_outputs[0] / ctx.scale
        # not finite if the value is not: DDP then carries it to every rank, and all of them stop at the same step
        factor = factor + 0 * value
        return (None, None, None, *[None] * len(gradients), *[factor * g for g in gradients])


def with_gradient(value: Tensor, gradient: Params, parameters: Params, scale: Tensor | None = None) -> Tensor:
    """Return ``value`` such that ``backward`` adds ``gradient`` to ``parameters``.

    Args:
        value: 0-d, the meta-loss.
        gradient: its gradient, times ``scale``.
        parameters: what the gradient belongs to.
        scale: what the gradient has been multiplied by; 1 if not given.
    """
    order = list(parameters)
    tensors = [gradient[name] for name in order] + [parameters[name] for name in order]
    return FinishedGradient.apply(value, scale, len(order), *tensors)  # type: ignore[no-any-return, no-untyped-call]
