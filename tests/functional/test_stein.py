"""Stein variational gradient descent against its definition."""

import math

import pytest
import torch
from torch.func import grad, vmap

from metalit.functional.stein import bandwidth, stein_direction


@pytest.fixture
def particles():
    torch.manual_seed(0)
    return torch.randn(5, 3, dtype=torch.float64)


def test_direction_is_the_definition(particles):
    """The sum over particles, with the kernel's gradient by autograd."""
    gradients, temperature = torch.randn(5, 3, dtype=torch.float64), 0.3
    h = torch.pdist(particles).square().quantile(0.5) / math.log(5)

    def kernel(one, other):
        return (-(one - other).square().sum() / h).exp()

    expected = torch.stack(
        [
            sum(
                kernel(one, other) * slope - temperature * grad(kernel)(one, other)
                for one, slope in zip(particles, gradients, strict=True)
            )
            / 5
            for other in particles
        ]
    )
    torch.testing.assert_close(stein_direction(particles, gradients, temperature), expected)


def test_a_single_particle_follows_its_own_gradient(particles):
    slope = torch.randn(1, 3)
    assert torch.equal(stein_direction(particles[:1], slope, 7.0), slope)


def test_coinciding_particles_move_together():
    slope = torch.arange(6.0).reshape(2, 3)
    direction = stein_direction(torch.ones(2, 3), slope)
    torch.testing.assert_close(direction, slope.mean(0).expand(2, 3))


def test_bandwidth_is_a_constant_of_each_task(particles):
    squares = vmap(lambda x: torch.cdist(x, x).square())(torch.stack([particles, 2 * particles]))
    found = vmap(bandwidth)(squares)
    assert found[1].item() == pytest.approx(4 * found[0].item())


def test_it_samples_a_gaussian():
    """Where the loss is (x - 2)^2 / 2 and the temperature 0.25, particles settle with mean 2 and std 0.5."""
    torch.manual_seed(0)
    particles = torch.randn(40, 1, dtype=torch.float64)
    for _ in range(800):
        particles = particles - 0.5 * stein_direction(particles, particles - 2, 0.25)
    assert particles.mean().item() == pytest.approx(2, abs=0.02)
    assert particles.std().item() == pytest.approx(0.5, abs=0.06)
