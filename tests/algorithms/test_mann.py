"""MANN (a re-implementation: tristandeleu/ntm-one-shot at 617aec9, mann/model.py).

https://github.com/tristandeleu/ntm-one-shot/blob/617aec95d02436699eb02d1f1b1c4ec87036a75a/mann/model.py
"""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from metalit import Episode, Labelled
from metalit.algorithms import MANN
from metalit.functional.memory import cosine_similarity, least_used, read_weights, write, write_weights
from metalit.networks.memory_controller import MemoryController

WAYS, SHOTS, FEATURES, HEADS, SLOTS = 3, 2, 6, 2, 7
STEPS = WAYS * SHOTS


def make(**settings):
    torch.manual_seed(0)
    small = {"ways": WAYS, "hidden": 8, "slots": SLOTS, "slot_size": 5, "heads": HEADS, "features": FEATURES}
    return MANN(nn.Identity(), **(small | settings)).double()


@pytest.fixture
def support():
    torch.manual_seed(1)
    return Labelled(torch.randn(STEPS, FEATURES).double(), torch.tensor([2, 0, 0, 1, 2, 1]))


@pytest.fixture
def query():
    torch.manual_seed(2)
    return torch.randn(4, FEATURES).double()


def read(learner, support, query):
    """Predictions of the support examples, each before its label is told, and of the queries."""
    meta = learner.meta()[0]
    memory, before = learner.read(meta, support)
    return torch.cat([before, learner.answer(meta, memory, query)])


def test_a_label_reaches_the_next_step_and_not_its_own(support, query):
    learner = make()
    before = read(learner, support, query)
    for t in range(STEPS):
        told = support.y.clone()
        told[t] = (told[t] + 1) % WAYS
        after = read(learner, Labelled(support.x, told), query)
        assert torch.equal(after[: t + 1], before[: t + 1])
        next_steps = slice(t + 1, None if t == STEPS - 1 else t + 2)
        assert (after[next_steps] - before[next_steps]).abs().min() > 0


def test_each_query_is_a_next_step_by_itself(support, query):
    """All queries at once give what each gives at the end of a sequence of its own."""
    learner = make()
    at_once = read(learner, support, query)
    controller, steps = learner.controller, torch.cat([support.x, query[2:3]])
    codes = torch.cat([torch.zeros(1, WAYS), F.one_hot(support.y, WAYS)]).double()
    _, alone = controller(torch.cat([steps, codes], dim=-1))
    torch.testing.assert_close(alone, torch.cat([at_once[:STEPS], at_once[STEPS + 2 :][:1]]), rtol=0, atol=1e-12)


def test_two_steps_by_hand():
    """Every head, slot and gate written out for one step after another."""
    torch.manual_seed(0)
    controller = MemoryController(4, 3, hidden=6, slots=5, slot_size=3, heads=2, usage_decay=0.9).double()
    for name, parameter in controller.named_parameters():
        nn.init.normal_(parameter, std=0.5) if name.endswith("bias") else None
    x = torch.randn(2, 4).double()
    h, c, r = (torch.zeros(n).double() for n in (6, 6, 6))
    memory, usage, last = (
        torch.full((5, 3), 1e-6).double(),
        torch.zeros(5).double(),
        torch.zeros(2, 5).double(),
    )
    expected = []
    for t in range(2):
        gates = controller.from_inputs(x[t]) + controller.from_state(torch.cat([h, r]))
        i, f, g, o = gates.reshape(4, 6)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        keys, contents = (layer(h).tanh().reshape(2, 3) for layer in (controller.keys, controller.contents))
        gate = controller.gates(h).sigmoid()
        free = usage.argsort(stable=True)[:2].tolist()
        writing = gate[:, None] * last
        for head in range(2):
            writing[head, free[head]] += 1 - gate[head]
        memory = memory.clone()
        memory[free[0]] = 0
        memory = memory + sum(torch.outer(writing[head], contents[head]) for head in range(2))
        cosines = F.cosine_similarity(keys[:, None], memory[None], dim=-1)
        assert (memory.norm(dim=1) > 0.01).any()
        last = torch.where(memory.norm(dim=1) > 0.01, cosines, 0).softmax(-1)
        usage = 0.9 * usage + last.sum(0) + writing.sum(0)
        r = (last @ memory).flatten()
        expected.append(controller.head(torch.cat([h, r])))
    torch.testing.assert_close(controller(x)[1], torch.stack(expected), rtol=0, atol=1e-4)


def test_cosines_are_finite_at_empty_slots():
    keys, memory = (
        torch.randn(2, 3),
        torch.cat([torch.zeros(1, 3), torch.full((1, 3), 1e-6), torch.randn(2, 3)]),
    )
    keys.requires_grad_(), memory.requires_grad_()
    found = cosine_similarity(keys, memory)
    expected = F.cosine_similarity(keys[:, None], memory[None, 2:], dim=-1)
    torch.testing.assert_close(found[:, 2:], expected, rtol=0, atol=1e-4)
    assert found[:, :2].abs().max() < 0.01
    gradients = torch.autograd.grad(found.sum(), [keys, memory])
    assert all(gradient.isfinite().all() and gradient.abs().max() < 1e4 for gradient in gradients)


def test_reading_is_a_mean_over_slots():
    keys, memory = torch.randn(2, 3), torch.randn(4, 3)
    torch.testing.assert_close(read_weights(keys, memory).sum(-1), torch.ones(2))
    assert read_weights(keys, memory, 1e4).max(-1).values.min() > 0.99


def test_the_slots_used_least_are_written_to_without_a_gradient():
    usage = torch.tensor([3.0, 0.5, 2.0, 0.1], requires_grad=True)
    free = least_used(usage, heads=2)
    assert free.tolist() == [[0, 0, 0, 1], [0, 1, 0, 0]]
    assert not free.requires_grad
    last = torch.tensor([[0.7, 0.3, 0, 0], [0, 0, 1, 0]])
    found = write_weights(torch.tensor([[1.0], [0.25]]), last, free)
    torch.testing.assert_close(found, torch.tensor([[0.7, 0.3, 0, 0], [0, 0.75, 0.25, 0]]))


def test_the_slot_used_least_of_all_is_erased():
    memory, erased = torch.ones(3, 2), torch.tensor([0.0, 1.0, 0.0])
    weights, content = torch.tensor([[0, 0.5, 0], [0, 0, 1.0]]), torch.tensor([[4.0, 6.0], [10.0, 20.0]])
    assert write(memory, weights, content, erased).tolist() == [[1, 1], [2, 3], [11, 21]]


def test_all_steps_are_trained_and_the_queries_predicted(support, query):
    labels = torch.tensor([0, 1, 2, 1])
    episode = Episode(
        *(Labelled(x.unsqueeze(0), y.unsqueeze(0)) for x, y in (support, (query, labels))), torch.arange(1)
    )
    learner = make().eval()
    outcome, evaluated = learner(episode), learner.evaluate(episode)
    assert outcome.predictions.shape == (1, 4, WAYS)
    torch.testing.assert_close(evaluated.loss[0, 0], F.cross_entropy(outcome.predictions[0], labels))
    assert not torch.allclose(outcome.loss, evaluated.loss[0])
    names = [f"accuracy_presentation_{k}" for k in (1, 2, 3)]
    assert list(evaluated.measured) == list(outcome.measured) == names
    correct = (outcome.predictions[0].argmax(-1) == labels).float().mean()
    assert evaluated.measured[names[-1]].tolist() == [[correct]]  # the queries are the last presentation


def test_impossible_settings_are_refused():
    for settings in ({"hidden": 0}, {"slots": 1}, {"slot_size": 0}, {"heads": 0}, {"usage_decay": 1.5},
                     {"key_strength": 0.0}, {"ways": 0}, {"features": 0}):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(settings))} is"):
            make(**settings)


def test_regression_is_refused(support, query):
    values = Labelled(support.x.unsqueeze(0), support.x.unsqueeze(0))
    with pytest.raises(ValueError, match="ways is 3"):
        make()(Episode(values, values, torch.arange(1)))
