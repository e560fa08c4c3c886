"""iMAML against algebra: with L_S = 1/2 (phi - a)'A(phi - a) the regularised problem has the minimum

    phi* = (A + lambda I)^-1 (A a + lambda theta),    d phi* / d theta = lambda (A + lambda I)^-1

(Rajeswaran et al. 2019, lemma 1). The authors' code, https://github.com/aravindr93/imaml_dev at
6a2a6697d8b7be72e098d524852eacb448935fbf, solves another system: docs/algorithms/imaml.md.
"""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from algorithms.test_identities import DIMENSIONS, TASKS, Linear, episode, quadratic  # noqa: F401  # a fixture
from metalit import Labelled
from metalit.algorithms import IMAML
from metalit.objectives import JointLoss

STRENGTH = 2.0
CONVERGED = {"inner_lr": 0.1, "inner_steps": 200, "proximal_strength": STRENGTH, "cg_steps": 2 * DIMENSIONS}


def algebra(theta, episode, b):  # noqa: F811
    """Return phi*, its Jacobian, and the query gradient there, of one task."""
    (support, support_b), (query, query_b) = (quadratic(part.x[b], part.y[b]) for part in episode[:2])
    system = support + STRENGTH * torch.eye(DIMENSIONS, dtype=theta.dtype)
    minimum = torch.linalg.solve(system, support_b + STRENGTH * theta)
    return minimum, STRENGTH * torch.linalg.inv(system), query @ minimum - query_b


def test_a_quadratic_is_minimised_and_differentiated_exactly(episode):  # noqa: F811
    learner = IMAML(Linear(), **CONVERGED)
    theta = learner.network.theta.detach().clone()
    for b in range(TASKS):
        learned = learner.trajectory(learner.meta()[0], Labelled(episode.support.x[b], episode.support.y[b]), 200)
        torch.testing.assert_close(learned[-1]["theta"], algebra(theta, episode, b)[0], rtol=1e-8, atol=1e-8)
    learner.meta_loss(episode).backward()
    parts = [algebra(theta, episode, b) for b in range(TASKS)]
    expected = torch.stack([jacobian @ gradient for _, jacobian, gradient in parts]).mean(dim=0)
    torch.testing.assert_close(learner.network.theta.grad, expected, rtol=1e-8, atol=1e-8)
    outcome = learner(episode)
    assert (outcome.measured["cg_residual"] < 1e-8).all()
    assert (outcome.measured["inner_gradient_norm"] < 1e-8).all()


def test_line_search_reaches_the_minimum_at_any_rate_and_leaves_short_steps_alone(episode):  # noqa: F811
    def last(rate, steps, **settings):
        torch.manual_seed(2)
        learner = IMAML(Linear(), **(CONVERGED | {"inner_lr": rate, "inner_steps": steps} | settings))
        support = Labelled(episode.support.x[0], episode.support.y[0])
        learned = learner.trajectory(learner.meta()[0], support, steps)
        return learned[-1]["theta"], algebra(learner.network.theta.detach(), episode, 0)[0]

    found, minimum = last(5.0, 60, line_search=True)
    torch.testing.assert_close(found, minimum, rtol=1e-8, atol=1e-8)
    assert (last(5.0, 60)[0] - minimum).norm() > 1e6
    torch.testing.assert_close(last(0.01, 5, line_search=True)[0], last(0.01, 5)[0], rtol=0, atol=0)


@pytest.mark.parametrize("adapted", [["*"], ["2.*"], ["0.weight"]])
def test_the_meta_gradient_is_the_derivative_of_the_meta_loss(adapted, episode):  # noqa: F811
    """By central differences, of adapting parameters and of others, with what the solvers leave over far below."""
    torch.manual_seed(1)
    network = nn.Sequential(nn.Linear(DIMENSIONS, 3), nn.Tanh(), nn.Linear(3, 1)).double()
    learner = IMAML(network, inner_lr=0.1, inner_steps=100, proximal_strength=6.0, cg_steps=20, adapted=adapted)
    learner.meta_loss(episode).backward()
    for parameter in network.parameters():
        way = torch.randn_like(parameter)
        with torch.no_grad():
            values = []
            for step in (1e-5, -2e-5):
                parameter += step * way
                values.append(learner.meta_loss(episode))
            parameter += 1e-5 * way
        difference = (values[0] - values[1]) / 2e-5
        torch.testing.assert_close((parameter.grad * way).sum(), difference, rtol=1e-6, atol=1e-9)


def test_the_loss_is_the_query_loss_and_more_work_leaves_less_over(episode):  # noqa: F811
    def measure(**settings):
        torch.manual_seed(2)
        learner = IMAML(Linear(), **(CONVERGED | settings))
        outcome = learner(episode)
        plain = torch.stack([
            ((episode.query.x[b] @ learner.trajectory(learner.meta()[0], Labelled(
                episode.support.x[b], episode.support.y[b]), learner.inner_steps)[-1]["theta"]) - episode.query.y[b]
            ).square().mean() for b in range(TASKS)
        ])  # fmt: skip
        torch.testing.assert_close(outcome.loss, plain)
        return {name: value.mean() for name, value in outcome.measured.items()}

    residuals = [measure(cg_steps=steps)["cg_residual"] for steps in (1, 2, 3, 5)]
    norms = [measure(inner_steps=steps)["inner_gradient_norm"] for steps in (0, 1, 10, 100)]
    for values in (residuals, norms):
        assert all(later < 0.9 * earlier for earlier, later in pairwise(values))


def test_damping_goes_into_the_solver_alone(episode):  # noqa: F811
    learner = IMAML(Linear(), cg_damping=3.0, **CONVERGED)
    theta = learner.network.theta.detach().clone()
    learner.meta_loss(episode).backward()
    parts = [algebra(theta, episode, b) for b in range(TASKS)]
    damped = [
        STRENGTH * torch.linalg.solve(
            STRENGTH * torch.linalg.inv(jacobian) + 3.0 * torch.eye(DIMENSIONS, dtype=theta.dtype), gradient
        ) for _, jacobian, gradient in parts
    ]  # fmt: skip
    torch.testing.assert_close(learner.network.theta.grad, torch.stack(damped).mean(dim=0), rtol=1e-8, atol=1e-8)


PROGRAM = """
from pathlib import Path
import torch
from metalit import Episode, Labelled
from metalit.algorithms import IMAML, MAML
from metalit.networks import MLP

torch.manual_seed(0)
x = torch.randn(8, 64, 1)
episode = Episode(Labelled(x, x.sin()), Labelled(x, x.sin()), torch.arange(8))

def peak(algorithm, steps):
    algorithm(MLP(hidden=(128, 128)), inner_lr=1e-3, inner_steps=steps).meta_loss(episode).backward()
    # the highest of the process so far; getrusage would have that of its parent, too
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) / 2**10

peak(IMAML, 5)
print(*[peak(algorithm, steps) for algorithm in (IMAML, MAML) for steps in (5, 50)])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
def test_memory_does_not_grow_with_inner_steps():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    imaml_5, imaml_50, maml_5, maml_50 = map(float, done.stdout.split())  # MiB
    assert imaml_50 - imaml_5 < 5
    assert maml_50 - maml_5 > 50


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"proximal_strength": 0.0}, "proximal_strength is 0.0"),
        ({"cg_steps": 0}, "cg_steps is 0"),
        ({"cg_damping": -1.0}, "cg_damping is -1.0"),
        ({"objective": JointLoss()}, "JointLoss uses adapted parameters"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        IMAML(Linear(), **settings)
    with pytest.raises(TypeError, match="first_order"):
        IMAML(Linear(), first_order=True)
