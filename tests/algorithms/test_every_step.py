"""What is done around every step is done cheaply, and changes nothing else."""

from copy import deepcopy
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from torch import nn

from metalit import MAML, Episode, Labelled
from metalit.algorithms.every_step import NoProfiler
from metalit.algorithms.optimizers import checked_optimizers, use_fused_kernel
from metalit.networks import MLP


@pytest.fixture
def episodes():
    torch.manual_seed(0)
    parts = [Labelled(torch.randn(2, 5, 1), torch.randn(2, 5, 1)) for _ in range(8)]
    return [Episode(parts[i], parts[i + 1], torch.arange(2) + 2 * i) for i in range(0, 8, 2)]


def trained(episodes, **settings):
    torch.manual_seed(1)
    learner = MAML(MLP(hidden=(8,)), inner_lr=0.01, inner_steps=1, optimizer=partial(torch.optim.Adam, lr=0.01))
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet, **settings)
    loader = torch.utils.data.DataLoader(episodes, batch_size=None)
    trainer.fit(learner, loader, loader)
    return trainer, learner


def test_a_fit_profiles_nothing_at_no_cost(episodes):
    assert isinstance(trained(episodes)[0].profiler, NoProfiler)


@pytest.mark.parametrize("make", [SimpleProfiler, type("Own", (PassThroughProfiler,), {})])
def test_a_profiler_that_was_given_stays(make, episodes):
    profiler = make()
    assert trained(episodes, profiler=profiler)[0].profiler is profiler


def test_the_attribute_of_the_current_hook_is_set_past_module():
    learner = MAML(MLP())
    learner._current_fx_name = "training_step"
    assert vars(learner)["_current_fx_name"] == "training_step"
    learner.more = nn.Linear(1, 1)  # all other attributes go the usual way
    assert "more.weight" in dict(learner.named_parameters())


def test_adam_on_a_cpu_is_fused_and_its_weights_are_equal_to_rounding(episodes, monkeypatch):
    trainer, learner = trained(episodes)
    assert trainer.optimizers[0].param_groups[0]["fused"] is True
    monkeypatch.setattr("metalit.algorithms.optimizers.use_fused_kernel", lambda optimizer: None)
    plain, expected = trained(episodes)
    assert plain.optimizers[0].param_groups[0]["fused"] is None
    torch.testing.assert_close(learner.state_dict(), expected.state_dict(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    "make",
    [
        partial(torch.optim.Adam, fused=False),
        partial(torch.optim.Adam, foreach=True),
        partial(torch.optim.Adam, differentiable=True),
        partial(torch.optim.RMSprop),  # has no such kernel
    ],
)
def test_settings_that_exclude_the_fused_kernel_stay(make):
    optimizer = make([nn.Parameter(torch.zeros(2))])
    before = dict(optimizer.param_groups[0])
    use_fused_kernel(optimizer)
    assert optimizer.param_groups[0] == before


def test_a_parameter_elsewhere_leaves_the_choice_to_torch():
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(2, device="meta"))])
    use_fused_kernel(optimizer)
    assert optimizer.param_groups[0]["fused"] is None


@pytest.mark.parametrize("make", [torch.optim.Adam, partial(torch.optim.SGD, lr=0.1, momentum=0.9)])
def test_a_state_from_before_goes_on(make):
    def stepped(optimizer):
        (weight,) = optimizer.param_groups[0]["params"]
        weight.grad = torch.ones(2)
        optimizer.step()
        return weight.detach().clone()

    old = make([nn.Parameter(torch.zeros(2))])
    stepped(old)
    weight = nn.Parameter(old.param_groups[0]["params"][0].detach().clone())
    new = checked_optimizers([weight], make, None, "epoch")
    new.load_state_dict(deepcopy(old.state_dict()))
    torch.testing.assert_close(stepped(new), stepped(old), rtol=0, atol=0)
