"""What is done around every step is done cheaply, and changes nothing else."""

import inspect
from copy import deepcopy
from functools import partial
from unittest.mock import Mock

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import LambdaCallback
from lightning.pytorch.profilers import PassThroughProfiler, SimpleProfiler
from torch import nn

from metalit import MAML, Episode, Labelled
from metalit.algorithms.every_step import NoProfiler, add_gradient
from metalit.algorithms.optimizers import checked_optimizers, use_fused_kernel
from metalit.networks import MLP


@pytest.fixture
def episodes():
    torch.manual_seed(0)
    parts = [Labelled(torch.randn(2, 5, 1), torch.randn(2, 5, 1)) for _ in range(8)]
    return [Episode(parts[i], parts[i + 1], torch.arange(2) + 2 * i) for i in range(0, 8, 2)]


ADAM = partial(torch.optim.Adam, lr=0.01)


def trained(episodes, optimizer=ADAM, prepare=lambda learner: None, **settings):
    torch.manual_seed(1)
    learner = MAML(MLP(hidden=(8,)), inner_lr=0.01, inner_steps=1, optimizer=optimizer)
    prepare(learner)
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


class Listening(L.Callback):
    """Has one hook of a step, and notes its calls."""

    def __init__(self):
        self.heard = 0

    def on_train_batch_end(self, *_):
        self.heard += 1


def test_only_hooks_that_do_nothing_are_skipped(episodes):
    own, heard = Listening(), []
    given = LambdaCallback(on_after_backward=lambda *_: heard.append(1))
    trained(episodes, callbacks=[own, given])
    assert own.heard == len(heard) == 8
    assert own.on_before_backward is None
    assert given.on_before_backward is None


def test_lightning_finds_the_arguments_of_a_training_step(episodes):
    assert list(inspect.signature(MAML.training_step).parameters) == ["self", "batch", "batch_idx"]
    assert inspect.getfullargspec(MAML(MLP()).training_step).args == ["self", "batch", "batch_idx"]


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1}], ids=str)
def test_weights_are_those_of_gradients_that_pass_through_autograd(settings, episodes, monkeypatch):
    backward = Mock(wraps=L.LightningModule.backward)
    monkeypatch.setattr(L.LightningModule, "backward", lambda *args: backward(*args))
    found = trained(episodes, **settings)[1].state_dict()
    assert backward.call_count == 0
    monkeypatch.setattr("metalit.algorithms.meta_learner.takes_gradients", lambda *_: False)
    expected = trained(episodes, **settings)[1].state_dict()
    assert backward.call_count == 8
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_of_parameters_are_called(register, episodes):
    heard = []
    trained(episodes, prepare=lambda it: getattr(next(it.parameters()), register)(lambda tensor: heard.append(tensor)))
    assert len(heard) == 8


def test_gradients_of_several_parameters_share_no_memory():
    shared = torch.ones(3)
    parameters = {"a": torch.zeros(3), "b": torch.zeros(3)}
    add_gradient({"a": shared, "b": shared}, parameters, 2.0)
    parameters["a"].grad.mul_(10)
    assert shared.tolist() == [1, 1, 1]
    assert parameters["b"].grad.tolist() == [2, 2, 2]


def test_an_optimiser_with_its_own_way_to_forget_gradients_is_asked(episodes):
    class Own(torch.optim.SGD):
        forgotten = 0

        def zero_grad(self, set_to_none=True):
            Own.forgotten += 1
            super().zero_grad(set_to_none)

    trained(episodes, optimizer=partial(Own, lr=0.01))
    assert Own.forgotten == 8


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
