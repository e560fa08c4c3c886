"""learn2learn's MAML (Arnold et al. 2020) is an oracle: same network, same episodes, same meta-gradient.

It adapts clones of the module with torch.autograd, one task after the other, and shares no code with metalit.
"""

from copy import deepcopy
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from metalit import FOMAML, MAML, Engine, Episode, Labelled
from metalit.functional.losses import task_loss
from metalit.learn2learn_compat import INSTALL, import_learn2learn
from metalit.networks import MLP, Classifier, Conv4

pytestmark = pytest.mark.skipif(find_spec("learn2learn") is None, reason=INSTALL)
TASKS, WAYS, SHOTS, QUERIES = 3, 3, 2, 4
TOLERANCE = 1e-9


def images_and_network():
    torch.manual_seed(1)
    network = Classifier(Conv4(channels=4, image_size=16), ways=WAYS).double()
    for name, parameter in network.named_parameters():
        if parameter.dim() == 1:  # a batch norm at weight 1 and bias 0 would hide errors in its affine part
            nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.3)

    def examples(each):
        y = torch.arange(WAYS).repeat_interleave(each).expand(TASKS, -1)
        return Labelled(torch.rand(TASKS, WAYS * each, 1, 16, 16, dtype=torch.float64), y)

    return network, Episode(examples(SHOTS), examples(QUERIES), torch.arange(TASKS))


def numbers_and_network():
    torch.manual_seed(2)

    def examples(count):
        x = torch.randn(TASKS, count, 2, dtype=torch.float64)
        return Labelled(x, x.sin().sum(-1, keepdim=True) * torch.arange(1, TASKS + 1)[:, None, None])

    return MLP(inputs=2, hidden=(16, 16)).double(), Episode(examples(6), examples(8), torch.arange(TASKS))


PROBLEMS = {"conv4": images_and_network, "mlp": numbers_and_network}


def reference(network, episode, inner_lr, steps, first_order):
    """Return learn2learn's meta-loss and meta-gradient, by parameter name."""
    network = deepcopy(network)
    maml = import_learn2learn("algorithms").MAML(network, lr=inner_lr, first_order=first_order)
    losses = []
    for support_x, support_y, query_x, query_y in zip(*episode.support, *episode.query, strict=True):
        learner = maml.clone()
        for _ in range(steps):
            learner.adapt(task_loss(learner(support_x), support_y))
        losses.append(task_loss(learner(query_x), query_y))
    loss = torch.stack(losses).mean()
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in network.named_parameters()}


def ours(network, episode, inner_lr, steps, first_order, **engine):
    """Return metalit's meta-loss and meta-gradient, by parameter name."""
    algorithm = (FOMAML if first_order else MAML)(
        deepcopy(network), inner_lr=inner_lr, inner_steps=steps, engine=Engine(**engine)
    )
    loss = algorithm.meta_loss(episode)
    loss.backward()
    return loss.detach(), {name: parameter.grad for name, parameter in algorithm.network.named_parameters()}


def relative_difference(gradient, expected):
    assert gradient.keys() == expected.keys()
    difference = torch.cat([(gradient[name] - expected[name]).flatten() for name in expected]).norm()
    return (difference / torch.cat([g.flatten() for g in expected.values()]).norm()).item()


@pytest.mark.parametrize("first_order", [False, True], ids=["second_order", "first_order"])
@pytest.mark.parametrize("inner_lr", [0.01, 0.4])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_meta_gradient_equals_learn2learns(problem, steps, inner_lr, first_order):
    network, episode = PROBLEMS[problem]()
    expected_loss, expected = reference(network, episode, inner_lr, steps, first_order)
    loss, gradient = ours(network, episode, inner_lr, steps, first_order)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=TOLERANCE)
    assert relative_difference(gradient, expected) < TOLERANCE


@pytest.mark.parametrize("engine", [{"mapping": "loop"}, {"chunk_size": 2}], ids=["loop", "chunks"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_so_it_does_however_the_tasks_are_mapped(problem, engine):
    network, episode = PROBLEMS[problem]()
    _, expected = reference(network, episode, 0.4, 3, first_order=False)
    _, gradient = ours(network, episode, 0.4, 3, first_order=False, **engine)
    assert relative_difference(gradient, expected) < TOLERANCE


@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_reference_tells_orders_steps_and_rates_apart(problem):
    """Otherwise the agreement above would mean little."""
    network, episode = PROBLEMS[problem]()
    _, expected = reference(network, episode, 0.4, 3, first_order=False)
    for other in [(0.4, 3, True), (0.4, 2, False), (0.39, 3, False)]:
        assert relative_difference(reference(network, episode, *other)[1], expected) > 1e-4


def test_learn2learn_adapts_the_norms_of_conv4_too():
    network, episode = images_and_network()
    learner = import_learn2learn("algorithms").MAML(network, lr=0.4).clone()
    learner.adapt(task_loss(learner(episode.support.x[0]), episode.support.y[0]))
    before, after = dict(network.named_modules()), dict(learner.module.named_modules())
    norms = [name for name, module in before.items() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) == 4
    for name in norms:
        assert (before[name].weight - after[name].weight).abs().max() > 1e-6
        assert (before[name].bias - after[name].bias).abs().max() > 1e-6
