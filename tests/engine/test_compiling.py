"""Conditions that a compiled step checks before it runs again: what a user can change must be among them."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from metalit import MAML, Engine, Episode, Labelled
from metalit.engine.compiling import called_from_cpp, guards_to_keep, is_constant

FACTOR = 1.0


class Scaled(nn.Module):
    """Reads a global of its own module, as networks of users may."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 1)
        self.shift = 0.0

    def forward(self, x):
        return FACTOR * self.layer(x) + self.shift


def test_a_compiled_step_notices_what_has_changed(monkeypatch):
    torch._dynamo.reset()
    torch.manual_seed(0)
    learner = MAML(Scaled(), inner_lr=0.1, inner_steps=1, engine=Engine(compile=True, compile_backend="eager"))
    part = Labelled(torch.randn(4, 5, 3), torch.randn(4, 5, 1))
    episode = Episode(part, part, torch.arange(4))
    compiled = learner.engine.compiled_meta_gradient()

    def gradient(take):
        parameters, buffers = learner.meta()
        detached = {name: value.detach() for name, value in parameters.items()}
        task = learner.training_task(episode.support, learner.objective)
        gradient, _, _ = take(task, learner.objective, detached, buffers, learner.keys(episode), episode)
        return torch.cat([part.flatten() for part in gradient.values()])

    def changed(before):
        found = gradient(compiled)
        torch.testing.assert_close(found, gradient(learner.engine.meta_gradient))
        assert not torch.allclose(found, before)
        return found

    found = changed(torch.zeros(4))
    monkeypatch.setitem(globals(), "FACTOR", 3.0)
    found = changed(found)
    learner.network.shift = 2.0
    changed(found)
    torch._dynamo.reset()


@pytest.mark.parametrize(
    ("name", "constant"),
    [
        ("G['vmap'].__code__", True),
        ("G['__import_torch_dot_nn_dot_modules_dot_linear'].F.linear", True),
        ("dict(G['__import_metalit_dot_outcome'].Outcome.__dict__)['__new__']", True),
        ("G['__builtins_dict___0']['len']", True),
        ("G['__import_contextlib'].nullcontext", True),
        ("G['__import_torch_dot_nn_dot_modules_dot_module']._global_forward_hooks", False),
        ("G['__import_torch_geometric_dot_nn'].aggregate", False),
        ("G['__import_test_compiling'].FACTOR", False),
        ("G['__import___main__'].FACTOR", False),
        ("G['___unnamed_scope_1_c0']['x']", False),
        ("", False),
    ],
)
def test_globals_of_libraries_are_constant(name, constant):
    assert is_constant(name) == constant


def test_a_local_is_checked_whatever_its_name():
    names = ("G['__import_torch'].nn", "L['tasks'].episode")
    guards = [SimpleNamespace(name=name, is_global=is_global) for name in names for is_global in (True, False)]
    assert guards_to_keep(guards) == [False, True, True, True]


@pytest.mark.parametrize(("device", "expected"), [("cpu", True), ("meta", False)])
def test_kernels_on_a_cpu_are_called_from_cpp(device, expected):
    config = torch._inductor.config
    before = config.cpp_wrapper
    with called_from_cpp([torch.zeros(1), torch.zeros(1, device=device), 3]):
        assert config.cpp_wrapper == (expected or before)
    assert config.cpp_wrapper == before
