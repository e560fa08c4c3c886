"""The engine: run a function of one task for a batch of tasks, and differentiate the objective of all of them.

An algorithm supplies a *task*, a pure function ``task(meta, support, query) -> Outcome``. The engine maps it over the
task axis and differentiates an objective of all outcomes with respect to the meta-parameters.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache, partial, reduce
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from metalit.engine.certified import announce, uncertified
from metalit.engine.compiling import guards_to_keep, keyed, missing_for_inductor
from metalit.engine.derivatives import (
    Leaves,
    Scale,
    derivative,
    derivative_within_vmap,
    differentiated,
    float_leaves,
    mapped_with_gradient,
)
from metalit.engine.explanations import explained
from metalit.engine.mapping import reason_to_loop
from metalit.episode import Episode, Labelled
from metalit.errors import at_least, check
from metalit.functional.masks import filled
from metalit.objectives import Objective
from metalit.outcome import Outcome
from metalit.tasks.parameters import Params
from metalit.tasks.task_context import TaskContext, without_writes

ALWAYS_THERE = ("inductor", "aot_eager", "eager")  # backends that need no look-up; listing torch's takes seconds
Task = Callable[[Params, Labelled, Labelled], Outcome]
MetaGradient = tuple[Params, Tensor, Outcome]
Mapping = Literal["auto", "vmap", "loop"]


class Tasks(NamedTuple):
    """The function of one task, the inputs it may read besides parameters, and B tasks to run it on.

    Attributes:
        task: the function of one task.
        buffers: the networks' buffers by name, shared by all tasks.
        keys: ``[B]`` int64, the seed of each task's random numbers.
        episode: B tasks.
    """

    task: Task
    buffers: Params
    keys: Tensor
    episode: Episode


@dataclass(frozen=True)
class Engine:
    """Settings of how the tasks of a meta-batch are computed; they change speed and memory, not the results.

    Args:
        mapping: ``vmap`` runs all tasks as one program, ``loop`` one by one; ``auto``: ``loop`` where it is faster,
            for wide convolutions on a CPU.
        chunk_size: largest number of tasks computed at once; saves memory. If the objective compares tasks, it costs
            one more forward pass.
        compile: compile the meta-gradient with ``torch.compile``; the first step takes longer. Without a C++ compiler
            it warns and does not.
        compile_backend: backend of ``torch.compile``.
        differentiate: ``inside`` vmap is right for every network, ``over`` it faster but wrong for some layers;
            ``auto``: ``over`` if all layers are tested.
        kernels: for blocks of convolutions on a CPU: metalit's (``auto``) or torch's.
    """

    mapping: Mapping = "auto"
    chunk_size: int | None = None
    compile: bool = False
    compile_backend: str = "inductor"
    differentiate: Literal["auto", "inside", "over"] = "auto"
    kernels: Literal["auto", "torch"] = "auto"

    def __post_init__(self) -> None:
        at_least(1, chunk_size=self.chunk_size)
        if self.compile and self.compile_backend not in ALWAYS_THERE:
            known = torch.compiler.list_backends(exclude_tags=())
            expected = f"one of {', '.join(known)}"
            check("compile_backend", self.compile_backend, self.compile_backend in known, expected)

    @property
    def chooses(self) -> bool:
        """Whether the learner decides where gradients are taken."""
        return self.by_vmap and self.differentiate == "auto"

    @property
    def by_vmap(self) -> bool:
        """Whether tasks run as one vectorised program; an unsettled ``auto`` does."""
        return self.mapping != "loop"

    @property
    def over_vmap(self) -> bool:
        """Whether gradients are taken over vmap; an unsettled ``auto`` counts as inside."""
        return self.by_vmap and self.differentiate == "over"

    @property
    def inside_vmap(self) -> bool:
        """Whether gradients are taken inside vmap."""
        return self.by_vmap and self.differentiate != "over"

    def settled(self, learner: nn.Module) -> "Engine":
        """Return the engine with each ``auto`` resolved for a learner.

        Args:
            learner: a module with all modules that a task runs, and with the ``objective`` if there is one.
        """
        if self.reason_to_loop(learner):
            return resolved(self, "loop", self.differentiate)
        mapping: Mapping = "vmap" if self.mapping == "auto" else self.mapping
        if not self.chooses:
            return resolved(self, mapping, self.differentiate)
        return resolved(self, mapping, "over" if uncertified(learner) is None else "inside")

    def announce(self, learner: nn.Module) -> None:
        """Log once, before a meta-gradient of a learner is taken, what ``auto`` chose for it, and why.

        Tests and predictions take no meta-gradient, so they log nothing.
        """
        reason = self.reason_to_loop(learner)
        if reason or self.chooses:
            announce(learner, reason)

    def reason_to_loop(self, learner: nn.Module) -> str | None:
        """Return why ``mapping: auto`` chooses the loop for a learner, or None if it does not."""
        # compiled, each task of a loop would be a program of its own
        if self.mapping != "auto" or self.compile:
            return None
        return reason_to_loop(learner, self.kernels == "auto")

    def context(self, key: Tensor, buffers: Params) -> TaskContext:
        """Return the context in which one task runs.

        Args:
            key: 0-d int64, the seed of the task's random numbers.
            buffers: the networks' buffers by name.
        """
        return TaskContext(key, buffers, rows_by_vmap=self.over_vmap, kernels=self.kernels == "auto")

    def map(self, task: Task, parameters: Params, buffers: Params, keys: Tensor, episode: Episode) -> Outcome:
        """Run every task of an episode; the outcomes are differentiable if the parameters require a gradient.

        Args:
            task: the function of one task.
            parameters: meta-parameters by name.
            buffers: the networks' buffers by name.
            keys: ``[B]`` int64, the seed of each task's random numbers.
            episode: B tasks.

        Returns:
            The outcomes, each leaf with the task axis first.

        Raises:
            CannotVectoriseError: vmap cannot run the tasks, but ``mapping: loop`` can.
        """
        tasks = Tasks(task, buffers, keys, episode)
        with self._explained(tasks, parameters):
            return self._map_for_autograd(tasks, parameters)

    def meta_gradient(
        self,
        task: Task,
        objective: Objective,
        parameters: Params,
        buffers: Params,
        keys: Tensor,
        episode: Episode,
        scale: Tensor | None = None,
    ) -> MetaGradient:
        """Return (gradient of the objective with respect to ``parameters``, its value, the outcomes).

        The chain rule is applied in two phases: differentiate the objective with respect to every task's outcome, then
        pull that derivative back through the tasks. An objective may therefore mix tasks, chunks and ranks.

        Args:
            task: the function of one task.
            objective: the objective to differentiate.
            parameters: meta-parameters by name.
            buffers: the networks' buffers by name.
            keys: ``[B]`` int64, the seed of each task's random numbers.
            episode: B tasks.
            scale: factor of the gradient, against underflow in float16; 1 if not given.

        Raises:
            CannotVectoriseError: vmap cannot run the tasks, but ``mapping: loop`` can.
        """
        tasks = Tasks(task, buffers, keys, episode)
        with self._explained(tasks, parameters, gradient=True):
            return self._meta_gradient(tasks, objective, parameters, scale)

    def compiled_meta_gradient(self) -> Callable[..., MetaGradient]:
        """Return ``meta_gradient``, compiled if ``compile`` is set."""
        if not self.compile:
            return self.meta_gradient
        missing = missing_for_inductor() if self.compile_backend == "inductor" else None
        if missing:
            warnings.warn(f"engine.compile: {missing} is missing, so nothing is compiled: slower", stacklevel=2)
            return self.meta_gradient
        compiled = torch.compile(
            self._meta_gradient,
            fullgraph=True,
            dynamic=False,
            backend=keyed(self.compile_backend),
            options={"guard_filter_fn": guards_to_keep},
        )

        def meta_gradient(
            task: Task,
            objective: Objective,
            parameters: Params,
            buffers: Params,
            keys: Tensor,
            episode: Episode,
            scale: Tensor | None = None,
        ) -> MetaGradient:
            tasks = Tasks(task, buffers, keys, episode)
            # the task's context cannot watch the buffers while it is compiled
            with self._explained(tasks, parameters, gradient=True), without_writes(buffers):
                return compiled(tasks, objective, parameters, scale)

        return meta_gradient

    def _map_for_autograd(self, tasks: Tasks, parameters: Params) -> Outcome:
        if not (self.inside_vmap and torch.is_grad_enabled()):
            return self._map(tasks, parameters)
        if any(leaf.requires_grad for leaf in tree_leaves((tasks.buffers, tasks.episode))):
            # pull_back below returns the gradient of the parameters only. A gradient with respect to the data is left
            # to autograd, which is correct through a loop.
            return replace(self, mapping="loop")._map(tasks, parameters)
        if not any(leaf.requires_grad for leaf in parameters.values()):
            return self._map(tasks, parameters)

        # Plain autograd would differentiate over vmap. Its backward pass calls pull_back instead, which runs the tasks
        # once more and differentiates inside vmap.
        def pull_back(parameters: Params, cotangent: Leaves) -> Params:
            with self._explained(tasks, parameters, gradient=True):
                return self._pull_back(tasks, parameters, cotangent)

        return mapped_with_gradient(partial(self._map, tasks), pull_back, parameters)

    def _explained(self, tasks: Tasks, parameters: Params, *, gradient: bool = False) -> AbstractContextManager[None]:
        """Return a context that turns errors of torch into errors that name the remedy; see ``explained``."""

        def attempt(mapping: Mapping, chunk_size: int | None) -> None:
            engine = replace(self, mapping=mapping, chunk_size=chunk_size, compile=False)
            few = engine._chunks(tasks)[0][0]  # one chunk is enough to reproduce the error
            with torch.no_grad():
                outcome = engine._map(few, parameters)
            if gradient:  # a network whose forward pass runs may still lack a derivative
                engine._pull_back(few, parameters, tree_map(torch.zeros_like, float_leaves(outcome)))

        return explained(partial(attempt, "loop", 1), partial(attempt, self.mapping, self.chunk_size))

    def _map(self, tasks: Tasks, parameters: Params) -> Outcome:
        parts = [self._map_at_once(part, parameters) for (part,) in self._chunks(tasks)]
        return parts[0] if len(parts) == 1 else tree_map(lambda *leaves: torch.cat(leaves), *parts)

    def _meta_gradient(self, tasks: Tasks, objective: Objective, parameters: Params, scale: Scale) -> MetaGradient:
        chunked = self.chunk_size is not None and self.chunk_size < len(tasks.keys)
        if chunked and not objective.over_all_tasks:
            return self._mean_over_chunks(tasks, objective, parameters, scale)
        # An objective that mixes tasks is differentiated only when the outcomes of all chunks are known, so chunks need
        # two forward passes. The compiler takes this path too, since it cannot look across tasks from inside vmap; it
        # computes the common forward pass once.
        if chunked or (self.inside_vmap and torch.compiler.is_compiling()):
            with torch.no_grad():
                outcome = self._map(tasks, parameters)
            cotangent, value = derivative(objective, outcome, scale)
            return self._pull_back(tasks, parameters, cotangent), value, outcome
        if self.inside_vmap and not alone(tasks):
            return self._differentiate_inside(tasks, objective, parameters, scale)
        outcome, pull_back = differentiated(partial(self._map_at_once, tasks), parameters)
        cotangent, value = derivative(objective, outcome, scale)
        return pull_back(cotangent), value, outcome

    def _mean_over_chunks(self, tasks: Tasks, objective: Objective, parameters: Params, scale: Scale) -> MetaGradient:
        """Return the meta-gradient of a mean over tasks, one chunk after the other."""
        parts = []
        for (part,) in self._chunks(tasks):
            share = len(part.keys) / len(tasks.keys)
            weight = share if scale is None else share * scale
            gradient, value, outcome = self._meta_gradient(part, objective, parameters, weight)
            parts.append((gradient, share * value, outcome))
        gradient, value = reduce(partial(tree_map, torch.add), [part[:2] for part in parts])
        return gradient, value, tree_map(lambda *leaves: torch.cat(leaves), *[outcome for _, _, outcome in parts])

    def _pull_back(self, tasks: Tasks, parameters: Params, cotangent: Leaves) -> Params:
        """Return the gradient of the parameters by running each task again, with the graph of one chunk at a time."""
        parts = (
            self._pull_back_at_once(part, parameters, part_cotangent)
            for part, part_cotangent in self._chunks(tasks, cotangent)
        )
        return reduce(partial(tree_map, torch.add), parts)

    def _chunks(self, tasks: Tasks, *trees: Any) -> list[tuple[Any, ...]]:
        """Split the tasks, and pytrees with the same task axis, into chunks."""
        size = self.chunk_size or len(tasks.keys)
        return [
            (tasks._replace(keys=keys, episode=episode), *rest)
            for keys, episode, *rest in split_tasks((tasks.keys, tasks.episode, *trees), size)
        ]

    def _run(self, tasks: Tasks, parameters: Params, key: Tensor, episode: Episode) -> Outcome:
        """Run one task."""
        context = self.context(key, tasks.buffers)
        # fused attention kernels have no second derivative
        with sdpa_kernel(SDPBackend.MATH), context:
            outcome = tasks.task({**parameters, **tasks.buffers}, filled(episode.support), filled(episode.query))
        return outcome._replace(buffers=context.statistics())

    def _map_at_once(self, tasks: Tasks, parameters: Params) -> Outcome:
        one = partial(self._run, tasks, parameters)
        # randomness is about torch's own generator, which no task reads: its numbers come from the key
        if self.by_vmap and not alone(tasks):
            return vmap(one, randomness="different")(tasks.keys, tasks.episode)
        count = len(tasks.keys)
        outcomes = [one(*tree_map(lambda leaf, b=b: leaf[b], (tasks.keys, tasks.episode))) for b in range(count)]
        return tree_map(lambda *leaves: torch.stack(leaves), *outcomes)  # type: ignore[no-any-return]

    def _pull_back_at_once(self, tasks: Tasks, parameters: Params, cotangent: Leaves) -> Params:
        # over vmap or in a loop, one vjp covers the whole batch
        if not self.inside_vmap or alone(tasks):
            return differentiated(partial(self._map_at_once, tasks), parameters)[1](cotangent)

        def of_one(key: Tensor, episode: Episode, cotangent: Leaves) -> Params:
            run = partial(self._run, tasks, key=key, episode=episode)
            return differentiated(run, parameters)[1](cotangent)

        return summed(vmap(of_one, randomness="different")(tasks.keys, tasks.episode, cotangent))

    def _differentiate_inside(
        self, tasks: Tasks, objective: Objective, parameters: Params, scale: Scale
    ) -> MetaGradient:
        # both phases share one forward pass, since derivative_within_vmap sees the outcomes of all tasks
        def of_one(key: Tensor, episode: Episode) -> MetaGradient:
            run = partial(self._run, tasks, key=key, episode=episode)
            outcome, pull_back = differentiated(run, parameters)
            cotangent, value = derivative_within_vmap(objective, outcome, scale)
            return pull_back(cotangent), value, outcome

        mapped = vmap(of_one, out_dims=(0, None, 0), randomness="different")  # type: ignore[arg-type]
        gradient, value, outcome = mapped(tasks.keys, tasks.episode)
        return summed(gradient), value, outcome


def alone(tasks: Tasks) -> bool:
    """Whether there is one task, which runs without ``vmap``, so with less overhead."""
    return len(tasks.keys) == 1 and not torch.compiler.is_compiling()


@cache
def resolved(engine: Engine, mapping: Mapping, differentiate: Literal["auto", "inside", "over"]) -> Engine:
    """Return the engine with two settings replaced; repeated calls return the same object."""
    return replace(engine, mapping=mapping, differentiate=differentiate)


def summed(gradients: Params) -> Params:
    """Return the sum of per-task gradients over the tasks."""
    return {name: gradient.sum(dim=0) for name, gradient in gradients.items()}


def split_tasks(tree: Any, size: int) -> list[Any]:
    """Split a pytree along its task axis into pytrees of at most ``size`` tasks."""
    leaves = torch.utils._pytree.tree_leaves(tree)
    return [
        tree_map(lambda leaf, start=start: leaf[start : start + size], tree) for start in range(0, len(leaves[0]), size)
    ]
