"""The table of cases: what is measured, and who takes part."""

from dataclasses import replace
from functools import cache

from metalit import Engine
from metalit.algorithms import IMAML

from . import fit, methods, own, start_up, stream
from .convolutions import limit
from .own import bare_step, fewer_tasks
from .peers import higher, jax, learn2learn, torchopt
from .problems import EMBEDDED, PROBLEMS, Problem
from .race import ORDINARY, Case, Contender, Setting, Step, stepping

METALIT, COMPILED, LEARN2LEARN, LIMIT = "metalit", "metalit, compiled", "learn2learn", "convolutions alone"
WITHOUT_KERNELS = "metalit, kernels: torch"
SECTIONS = {  # in the order of the page
    "step": "A training step of MAML",
    "peers": "Every library on the same step",
    "metric": "A training step of prototypical networks",
    "inner-loop": "Many inner steps: time and memory",
    "methods": "Every method",
    "fit": "A step of `metalit fit`",
    "stream": "Episodes",
    "start-up": "Start, in processor seconds",
}


def maml(name: str, order: int, steps: int, seconds: float = ORDINARY, memory: bool = False) -> Case:
    """Return MAML against learn2learn and, where there are convolutions, the limit."""
    problem = PROBLEMS[name]
    contenders = [
        Contender(METALIT, stepping(own.maml(problem, order, steps))),
        Contender(LEARN2LEARN, stepping(learn2learn.maml(problem, order, steps)), optional=True),
    ]
    compared = [(LEARN2LEARN, METALIT)]
    if name == "sine":
        contenders += [
            Contender(COMPILED, stepping(own.compiled(problem, order, steps))),
            Contender("JAX", stepping(jax.maml(problem, order, steps)), optional=True),
        ]
        compared += [(LEARN2LEARN, COMPILED), ("JAX", COMPILED), (METALIT, COMPILED)]
    else:
        contenders.append(Contender(LIMIT, limit(problem, order, steps), same_loss=False))
        compared.append((METALIT, LIMIT))
    if name.startswith(("omniglot", "mini")):  # networks whose blocks metalit's kernels compute
        contenders.append(Contender(WITHOUT_KERNELS, stepping(own.without_kernels(problem, order, steps))))
        compared += [(WITHOUT_KERNELS, METALIT), (LEARN2LEARN, WITHOUT_KERNELS)]
    return Case(f"step/{name}/order-{order}/steps-{steps}", "step", contenders, compared, seconds, memory)


def everybody(name: str, tasks: int, steps: int, memory: bool = False) -> Case:
    """Return second-order MAML by everybody, on fewer tasks."""
    problem = fewer_tasks(PROBLEMS[name], tasks)
    makers = {"a plain loop": own.looped_maml, LEARN2LEARN: learn2learn.maml, "higher": higher.maml}
    makers |= {"TorchOpt": torchopt.maml, "JAX": jax.maml}
    contenders = [Contender(METALIT, stepping(own.maml(problem, 2, steps)))]
    contenders += [Contender(each, stepping(make(problem, 2, steps)), optional=True) for each, make in makers.items()]
    return Case(f"peers/{name}/steps-{steps}", "peers", contenders, seconds=30, memory=memory)


def protonet(ways: int, tasks: int) -> Case:
    """Return prototypical networks against the loop over episodes and learn2learn."""
    problem = replace(EMBEDDED, ways=ways, tasks=tasks)
    contenders = [
        Contender(METALIT, stepping(own.protonet(problem))),
        Contender("a plain loop", stepping(own.looped_protonet(problem))),
        Contender(LEARN2LEARN, stepping(learn2learn.protonet(problem)), optional=True),
        Contender(LIMIT, limit(problem, 1, 1), same_loss=False),
    ]
    compared = [("a plain loop", METALIT), (LEARN2LEARN, METALIT), (METALIT, LIMIT)]
    return Case(f"metric/protonet/{ways}-way", "metric", contenders, compared, memory=True)


def imaml(problem: Problem, steps: int, setting: Setting) -> Step:
    """Return a step of iMAML, which keeps no graph of its inner steps."""
    learner = IMAML(problem.make_network(setting), problem.rate, inner_steps=setting.inner(steps))
    return bare_step(learner.to(setting.device), problem.make_episode(setting))


def inner_loop(name: str, tasks: int, steps: int, seconds: float) -> Case:
    """Return the ways to take many inner steps in little memory."""
    problem = fewer_tasks(PROBLEMS[name], tasks)
    one = Engine(chunk_size=1)
    makers = {
        LEARN2LEARN: learn2learn.maml(problem, 2, steps),
        METALIT: own.maml(problem, 2, steps),
        "metalit, chunk_size 1": own.maml(problem, 2, steps, one),
        "metalit, checkpoint_steps": own.maml(problem, 2, steps, checkpoint_steps=True),
        "metalit, both": own.maml(problem, 2, steps, one, checkpoint_steps=True),
        "metalit, first order": own.maml(problem, 1, steps),
        "metalit, iMAML": lambda setting: imaml(problem, steps, setting),
    }
    contenders = [
        Contender(name, stepping(make), "iMAML" not in name, optional=name == LEARN2LEARN)
        for name, make in makers.items()
    ]
    return Case(f"inner-loop/{name}/steps-{steps}", "inner-loop", contenders, seconds=seconds, memory=True)


@cache
def cases() -> dict[str, Case]:
    """Return every case by name, in the order in which they run."""
    found = [
        *(maml("sine", order, steps) for order, steps in ((2, 1), (1, 1), (2, 5))),
        maml("omniglot-pool", 2, 5, 90, memory=True),
        maml("omniglot-pool", 1, 5, 45),
        maml("omniglot-pool", 2, 1, 30),
        maml("omniglot-stride", 2, 5, 45, memory=True),
        maml("omniglot-stride", 1, 5, 30),
        maml("omniglot-stride", 2, 1),
        maml("mini", 2, 5, 60, memory=True),
        maml("mini", 1, 5, 40),
        maml("resnet12", 2, 1, 40, memory=True),
        maml("resnet12", 1, 1, 30),
        everybody("omniglot-pool", 8, 5),
        everybody("omniglot-stride", 8, 5, memory=True),
        *(protonet(ways, tasks) for ways, tasks in ((5, 16), (20, 4))),
        inner_loop("omniglot-stride", 4, 20, 40),
        inner_loop("omniglot-pool", 4, 20, 60),
        inner_loop("mini", 2, 20, 120),
        *methods.cases(),
        *fit.cases(),
        *stream.cases(),
        *start_up.cases(),
    ]
    return {case.name: case for case in found}


def select(only: list[str]) -> list[Case]:
    """Return the cases whose names begin with one of these words, or have them as a part; all if none is given.

    Raises:
        ValueError: a word fits no case.
    """
    every = cases()
    for word in only:
        if not any(fits(name, word) for name in every):
            raise ValueError(f"there is no case {word}; cases are {', '.join(every)}, and each part of a name selects")
    return [case for name, case in every.items() if not only or any(fits(name, word) for word in only)]


def fits(name: str, word: str) -> bool:
    """Whether a word is the beginning of a case's name or one of its parts."""
    return name.startswith(word) or word in name.split("/")
