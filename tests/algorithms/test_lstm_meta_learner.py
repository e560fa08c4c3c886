"""The LSTM meta-learner (authors' code: twitter/meta-learning-lstm at 0df7fc7, model/lstm/).

https://github.com/twitter/meta-learning-lstm/tree/0df7fc747a219b7dd04e846d75eb8164483b304b/model/lstm
"""

import math

import pytest
import torch
from torch import nn

from cases import DOMAINS
from metalit import FOMAML, Episode, Labelled
from metalit.algorithms import LSTMMetaLearner
from metalit.networks import MLP, Classifier, Conv4
from metalit.tasks import scope
from metalit.update_rules import LSTMRule
from metalit.update_rules.lstm_rule import LSTMCell


def constant_gates(learner, forget, rate):
    """Make the gates the same for all inputs: biases of the wanted logits (or saturated), weights 0."""
    for gate, value in ((learner.update_rule.forget_gate, forget), (learner.update_rule.input_gate, rate)):
        logit = math.log(value / (1 - value)) if 0 < value < 1 else math.copysign(1e3, value - 0.5)
        nn.init.constant_(gate.bias, logit)
        nn.init.zeros_(gate.weights)
    return learner


def episode_of(examples=6, queries=5, features=3, tasks=2):
    def labelled(count):
        x = torch.randn(tasks, count, features, dtype=torch.float64)
        return Labelled(x, torch.randn(tasks, count, 1, dtype=torch.float64))

    return Episode(labelled(examples), labelled(queries), torch.arange(tasks))


@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_constant_gates_are_first_order_maml(alpha):
    torch.manual_seed(0)
    network, episode = MLP(3, (8,), 1).double(), episode_of()
    fomaml = FOMAML(network, inner_lr=alpha, inner_steps=3)
    learner = constant_gates(LSTMMetaLearner(network, inner_steps=3).double(), 1.0, alpha)
    torch.testing.assert_close(learner(episode).predictions, fomaml(episode).predictions, rtol=0, atol=1e-12)
    parameters = list(network.parameters())
    expected = torch.autograd.grad(fomaml.meta_loss(episode), parameters)
    found = torch.autograd.grad(learner.meta_loss(episode), parameters)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_lower_lstm_is_torchs():
    torch.manual_seed(0)
    ours, theirs = LSTMCell(4, 5).double(), nn.LSTMCell(4, 5, dtype=torch.float64)
    for parameter in ours.parameters():
        nn.init.uniform_(parameter, -1, 1)
    let_in, forget, let_out, candidate = torch.arange(20).chunk(4)
    order = torch.cat([let_in, forget, candidate, let_out])  # in which torch has the gates
    theirs.weight_ih.data = ours.input_weights.data[:, order].T
    theirs.weight_hh.data = ours.hidden_weights.data[:, order].T
    theirs.bias_ih.data, theirs.bias_hh.data = ours.bias.data[order], torch.zeros(20).double()
    x, hidden, cell = (torch.randn(7, size, dtype=torch.float64) for size in (4, 5, 5))
    torch.testing.assert_close(ours(x, hidden, cell), theirs(x, (hidden, cell)))


def test_two_steps_of_the_rule_by_hand():
    """Equations 1 to 4 of the paper, for a coordinate."""
    torch.manual_seed(0)
    rule = LSTMRule(hidden=2).double()
    for parameter in rule.parameters():
        nn.init.uniform_(parameter, -1, 1)
    parameters = {"a": torch.tensor([0.5, -2.0]).double(), "b": torch.tensor([[1.5]]).double()}
    state, hidden, cell = rule.init(parameters), *torch.zeros(2, 1, 2).double()
    theta, forget, rate = parameters["b"].flatten(), torch.zeros(1).double(), torch.zeros(1).double()
    for slope, loss in ((0.2, 3.0), (-1e-6, 0.1)):
        gradient = {
            "a": torch.tensor([1.0, 2.0]).double(),
            "b": torch.tensor([[slope]], dtype=torch.float64),
        }
        parameters, state = rule(gradient, state, parameters, torch.tensor(loss, dtype=torch.float64))

        small = abs(slope) < math.exp(-10)
        seen = [-1.0, math.exp(10) * slope] if small else [math.log(slope) / 10, 1.0]
        seen = torch.tensor([[math.log(loss) / 10, 1.0, *seen]], dtype=torch.float64)
        hidden, cell = rule.lstm(seen, hidden, cell)

        def gate(module, last, hidden=hidden, theta=theta):
            inputs = torch.cat([hidden[0], theta, last])
            return torch.sigmoid(inputs @ module.weights + module.bias).reshape(1)

        forget, rate = gate(rule.forget_gate, forget), gate(rule.input_gate, rate)
        theta = forget * theta - rate * slope
        torch.testing.assert_close(parameters["b"].flatten(), theta)


def test_first_steps_are_small_and_forget_little():
    torch.manual_seed(0)
    rule = LSTMRule()
    assert 4 <= rule.forget_gate.bias <= 5
    assert -5 <= rule.input_gate.bias <= -4
    assert all(parameter.abs().max() <= 0.01 for name, parameter in rule.named_parameters() if "gate.bias" not in name)


@pytest.mark.parametrize("tracking", [True, False])
def test_running_statistics_are_those_of_the_support_set(tracking):
    torch.manual_seed(0)
    norm = nn.BatchNorm1d(3, track_running_stats=tracking)
    network = nn.Sequential(norm, nn.Linear(3, 1)).double()
    episode = episode_of()
    learner = constant_gates(LSTMMetaLearner(network, inner_steps=2).double(), 1.0, 0.0).eval()
    found = learner.evaluate(episode).predictions
    for task in range(2):
        variance, mean = torch.var_mean(episode.support.x[task], dim=0)
        for step in range(3):
            old = 0.1**step  # what is left of mean 0 and variance 1
            normalised = (episode.query.x[task] - (1 - old) * mean) / (old + (1 - old) * variance + 1e-5).sqrt()
            torch.testing.assert_close(found[task, step], network[1](normalised))


def conv_learner(query_statistics):
    torch.manual_seed(0)
    network = Classifier(Conv4(channels=4, downsample="stride"), ways=3)
    return LSTMMetaLearner(network, inner_steps=2, query_statistics=query_statistics).double().eval()


@pytest.mark.parametrize(("query_statistics", "independent"), [("support", True), ("batch", False)])
def test_whether_queries_see_one_another(query_statistics, independent):
    learner = conv_learner(query_statistics)
    assert learner.setting()["query_statistics"] == query_statistics
    support, query, index = DOMAINS["glyphs"].data().episodes("test", 0, 2)
    images = query.x.double()
    other = torch.cat([images[:, :1], 1 - images[:, 1:]], dim=1)
    support = Labelled(support.x.double(), support.y)
    one, two = (learner.evaluate(Episode(support, Labelled(x, query.y), index)).predictions for x in (images, other))
    same = [torch.allclose(one[:, step, 0], two[:, step, 0], rtol=0, atol=1e-10) for step in range(3)]
    assert same == [independent] * 3


def test_statistics_are_reset_for_each_episode():
    learner = conv_learner("support")
    episodes = (DOMAINS["glyphs"].data().episodes("test", i, 1) for i in range(2))
    first, second = (
        Episode(*(Labelled(part.x.double(), part.y) for part in episode[:2]), episode.index) for episode in episodes
    )
    before = learner.evaluate(second).predictions
    learner.evaluate(first)
    assert torch.equal(learner.evaluate(second).predictions, before)
    path = learner.trajectory(learner.meta()[0], Labelled(*(leaf[0] for leaf in second.support)), 1)
    assert set(path[0]) == set(scope(learner.meta()[0], "network"))  # no statistics before the first step
    assert len(path[1]) == len(path[0]) + 2 * 4


@pytest.mark.parametrize(
    "settings",
    [
        {"hidden": 0},
        {"forget_bias": (5.0, 4.0)},
        {"input_bias": (-4.0, -5.0)},
        {"query_statistics": "query"},
        {"statistics_momentum": 0.0},
        {"statistics_momentum": 1.5},
    ],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
        LSTMMetaLearner(MLP(), **settings)
