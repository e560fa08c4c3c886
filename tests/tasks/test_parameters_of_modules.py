"""One walk over a module finds what torch's several walks do."""

import torch
from torch import nn

from metalit import MAML
from metalit.networks import MLP, Conv4
from metalit.tasks.parameters import trained_and_fixed, walk


def shared():
    """A tree with a module, a parameter and a buffer in two places each, and a child that is None."""
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    outer = nn.ModuleDict({"first": nn.Sequential(inner, nn.Linear(2, 2)), "again": inner, "last": nn.Linear(2, 2)})
    outer["last"].weight = outer["first"][1].weight
    outer["last"].bias.requires_grad_(False)
    outer.register_buffer("mean", inner[1].running_mean)
    outer.register_module("none", None)
    return outer


def test_modules_come_in_the_order_of_torch():
    for module in (shared(), MAML(Conv4()), nn.TransformerEncoderLayer(4, 2, 4)):
        assert list(walk(module)) == list(module.named_modules())


def test_names_and_order_are_those_of_torch():
    for module in (shared(), MAML(MLP()), MAML(Conv4(batch_norm="running"))):
        trained, fixed = trained_and_fixed(module)
        parameters, buffers = dict(module.named_parameters()), dict(module.named_buffers())
        frozen = {name: each for name, each in parameters.items() if not each.requires_grad}
        assert list(trained) == [name for name in parameters if name not in frozen]
        assert list(fixed) == [*buffers, *frozen]
        assert all(value is (parameters | buffers)[name] for name, value in (trained | fixed).items())
    assert torch.is_tensor(fixed["task_seed"])
