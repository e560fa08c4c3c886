"""higher 0.2.1: a functional copy of the network and a differentiable optimiser for each task."""

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.speed.problems import Problem
from benchmarks.speed.race import Setting, Step
from torch import Tensor


def maml(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a step of MAML as its example has it."""

    def make(setting: Setting) -> Step:
        higher = importlib.import_module("higher")
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        loss = F.cross_entropy if problem.ways else F.mse_loss
        optimizer, count = torch.optim.SGD(network.parameters(), lr=problem.rate), len(tasks.query.y)

        def of_task(b: int) -> Tensor:
            context = higher.innerloop_ctx(
                network, optimizer, copy_initial_weights=False, track_higher_grads=order == 2
            )
            with context as (functional, inner):
                for _ in range(setting.inner(steps)):
                    inner.step(loss(functional(tasks.support.x[b]), tasks.support.y[b]))
                error = loss(functional(tasks.query.x[b]), tasks.query.y[b]) / count
                error.backward()
            return error.detach()

        def step() -> Tensor:
            optimizer.zero_grad()
            return torch.stack([of_task(b) for b in range(count)]).sum()

        return step

    return make
