"""learn2learn 0.2.0: a clone of the network and a backward pass for each task, as its examples have it."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from benchmarks.speed.own import loop_over_tasks
from benchmarks.speed.problems import Problem
from benchmarks.speed.race import Setting, Step
from torch import Tensor

from metalit.learn2learn_compat import import_learn2learn


def maml(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a step of its MAML."""

    def make(setting: Setting) -> Step:
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        learner = import_learn2learn("algorithms").MAML(network, lr=problem.rate, first_order=order == 1)
        loss = F.cross_entropy if problem.ways else F.mse_loss

        def error(b: int) -> Tensor:
            clone = learner.clone()
            for _ in range(setting.inner(steps)):
                clone.adapt(loss(clone(tasks.support.x[b]), tasks.support.y[b]))
            return loss(clone(tasks.query.x[b]), tasks.query.y[b])

        return loop_over_tasks(network, len(tasks.query.y), error)

    return make


def protonet(problem: Problem) -> Callable[..., Step]:
    """Return what makes a step of its prototypical classifier."""

    def make(setting: Setting) -> Step:
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        classifier = import_learn2learn("nn").PrototypicalClassifier()

        def error(b: int) -> Tensor:
            embedded = network(torch.cat([tasks.support.x[b], tasks.query.x[b]]))
            support, query = embedded.split([len(tasks.support.y[b]), len(tasks.query.y[b])])
            classifier.fit_(support, tasks.support.y[b])
            return F.cross_entropy(classifier(query), tasks.query.y[b])

        return loop_over_tasks(network, len(tasks.query.y), error)

    return make
