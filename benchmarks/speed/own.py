"""metalit's steps, and the loops that everybody writes."""

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metalit import Engine, Episode
from metalit.algorithms import FOMAML, MAML, MetaLearner, PrototypicalNetwork
from metalit.engine.compiling import missing_for_inductor

from .problems import Problem
from .race import LeftOutError, Setting, Step


def bare_step(learner: MetaLearner, episode: Episode) -> Step:
    """Return meta-loss and meta-gradient as ``training_step`` takes them, without Lightning and the optimiser."""
    learner.train()
    trained, fixed = learner.meta()
    values = {name: value.detach() for name, value in trained.items()}
    task = learner.training_task(episode.support, learner.objective, 0)
    gradient, keys = learner.settled_engine().compiled_meta_gradient(), learner.keys(episode)

    def step() -> Tensor:
        return gradient(task, learner.objective, values, fixed, keys, episode)[1]

    return step


def maml(
    problem: Problem, order: int, steps: int, engine: Engine | None = None, **options: bool
) -> Callable[..., Step]:
    """Return what makes a step of MAML, or of first-order MAML."""

    def make(setting: Setting) -> Step:
        kind, network = (FOMAML if order == 1 else MAML), problem.make_network(setting)
        learner = kind(
            network, inner_lr=problem.rate, inner_steps=setting.inner(steps), engine=engine or Engine(), **options
        )
        return bare_step(learner.to(setting.device), problem.make_episode(setting))

    return make


def without_kernels(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a step of MAML by torch's functions alone; on a CPU, for elsewhere there is nothing else."""
    make = maml(problem, order, steps, Engine(kernels="torch"))

    def checked(setting: Setting) -> Step:
        if setting.device.type != "cpu":
            raise LeftOutError("the kernels are for CPUs")
        return make(setting)

    return checked


def compiled(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a compiled step of MAML; not in the smoke run, which has no minute for the compiler."""
    make = maml(problem, order, steps, Engine(compile=True))

    def checked(setting: Setting) -> Step:
        missing = "time for the compiler" if setting.smoke else missing_for_inductor()
        if missing:
            raise LeftOutError(f"{missing} is missing")
        torch.compiler.reset()
        return make(setting)

    return checked


def protonet(problem: Problem) -> Callable[..., Step]:
    """Return what makes a step of prototypical networks."""

    def make(setting: Setting) -> Step:
        learner = PrototypicalNetwork(problem.make_network(setting))
        return bare_step(learner.to(setting.device), problem.make_episode(setting))

    return make


def loop_over_tasks(network: nn.Module, count: int, error: Callable[[int], Tensor]) -> Step:
    """Return a step that takes a backward pass for each task, without a wait for each loss."""

    def step() -> Tensor:
        for parameter in network.parameters():
            parameter.grad = None
        total = []
        for b in range(count):
            loss = error(b) / count
            loss.backward()
            total.append(loss.detach())
        return torch.stack(total).sum()

    return step


def looped_protonet(problem: Problem) -> Callable[..., Step]:
    """Return what makes a step of prototypical networks by a plain loop over episodes."""

    def make(setting: Setting) -> Step:
        network, tasks = problem.make_network(setting), problem.make_episode(setting)

        def error(b: int) -> Tensor:
            embedded = network(torch.cat([tasks.support.x[b], tasks.query.x[b]]))
            support, query = embedded.split([len(tasks.support.y[b]), len(tasks.query.y[b])])
            means = torch.stack([support[tasks.support.y[b] == label].mean(dim=0) for label in range(problem.ways)])
            logits = -(query[:, None] - means).square().sum(dim=2)
            return F.cross_entropy(logits, tasks.query.y[b])

        return loop_over_tasks(network, len(tasks.query.y), error)

    return make


def looped_maml(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a step of MAML by a plain loop over tasks with ``torch.autograd.grad``."""

    def make(setting: Setting) -> Step:
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        loss = F.cross_entropy if problem.ways else F.mse_loss

        def error(b: int) -> Tensor:
            adapted: dict[str, Tensor] = dict(network.named_parameters())
            for _ in range(setting.inner(steps)):
                support = loss(torch.func.functional_call(network, adapted, tasks.support.x[b]), tasks.support.y[b])
                slopes = torch.autograd.grad(support, list(adapted.values()), create_graph=order == 2)
                moved = zip(adapted.items(), slopes, strict=True)
                adapted = {name: value - problem.rate * slope for (name, value), slope in moved}
            return loss(torch.func.functional_call(network, adapted, tasks.query.x[b]), tasks.query.y[b])

        return loop_over_tasks(network, len(tasks.query.y), error)

    return make


def fewer_tasks(problem: Problem, tasks: int) -> Problem:
    """Return the problem with fewer tasks in a batch."""
    return replace(problem, tasks=tasks)
