"""TorchOpt: a differentiable optimiser that changes the network, whose state is restored after each task."""

import importlib
from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.speed.problems import Problem
from benchmarks.speed.race import LeftOutError, Setting, Step
from torch import Tensor


def maml(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a step of MAML as its tutorial has it."""

    def make(setting: Setting) -> Step:
        torchopt = importlib.import_module("torchopt")
        if order == 1:
            raise LeftOutError("its MetaSGD has no first order")
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        loss = F.cross_entropy if problem.ways else F.mse_loss
        inner = torchopt.MetaSGD(network, lr=problem.rate)
        parts = [
            (part, torchopt.extract_state_dict(part, by="reference", detach_buffers=True)) for part in (network, inner)
        ]
        parameters, count = list(network.parameters()), len(tasks.query.y)

        def of_task(b: int) -> Tensor:
            for _ in range(setting.inner(steps)):
                inner.step(loss(network(tasks.support.x[b]), tasks.support.y[b]))
            error = loss(network(tasks.query.x[b]), tasks.query.y[b]) / count
            error.backward()
            for part, state in parts:
                torchopt.recover_state_dict(part, state)
            return error.detach()

        def step() -> Tensor:
            for parameter in parameters:
                parameter.grad = None
            return torch.stack([of_task(b) for b in range(count)]).sum()

        return step

    return make
