"""P>M>F: fine-tuning with torch's Adam written out, what it is without it, and the choice of its rate."""

from copy import deepcopy

import lightning as L
import pytest
import torch
from torch import nn

from cases import DOMAINS
from metalit import Labelled
from metalit.algorithms import PMF, MetaBaseline
from metalit.functional.augmentation import Augmentation
from metalit.inference import Recogniser, TrainedModel
from metalit.networks import Conv4

pytestmark = pytest.mark.algorithms("PMF")


def task(ways=3, shots=2):
    torch.manual_seed(0)
    y = torch.arange(ways).repeat(shots)
    return Labelled(torch.rand(len(y), 1, 4, 4), y), torch.rand(5, 1, 4, 4)


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, 6))


def test_fine_tuning_by_hand():
    support, queries = task()
    none = Augmentation()  # so that the support images are their own pseudo-queries
    found = PMF(network(), learning_rate=0.01, steps=7, augmentation=none).adapt(support)(queries)

    by_hand = network()
    optimizer = torch.optim.Adam(by_hand.parameters(), lr=0.01)

    def logits(x):
        features = nn.functional.normalize(by_hand(x), dim=1)
        means = torch.stack([by_hand(support.x[support.y == k]).mean(0) for k in range(3)])
        return 10 * features @ nn.functional.normalize(means, dim=1).T

    before = logits(queries).detach()
    for _ in range(7):
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(support.x), support.y).backward()
        optimizer.step()
    torch.testing.assert_close(found, logits(queries).detach(), rtol=1e-3, atol=1e-4)
    assert (found - before).abs().max() > 0.1


@pytest.mark.parametrize("none", [{"learning_rate": 0.0}, {"learning_rate": 0.1, "steps": 0}, {}])
def test_without_fine_tuning_it_is_meta_baseline(none):
    support, queries = task()
    expected = MetaBaseline(network()).adapt(support)(queries)
    torch.testing.assert_close(PMF(network(), **none).adapt(support)(queries), expected)


def test_pseudo_queries_are_augmented_and_the_weights_of_the_learner_stay():
    data = DOMAINS["glyphs"].data()
    support, query = (Labelled(*(leaf[0] for leaf in part)) for part in data.episodes("test")[:2])
    plain, changed = (
        PMF(Conv4(8, batch_norm="running"), learning_rate=0.01, steps=3, augmentation=augmentation)
        for augmentation in (Augmentation(), None)
    )
    changed.load_state_dict(plain.state_dict())
    before = deepcopy(plain.state_dict())
    one, other = plain.adapt(support), changed.adapt(support)
    assert not torch.allclose(one(query.x), other(query.x))
    torch.testing.assert_close(changed.adapt(support)(query.x), other(query.x))  # the same augmentations
    assert all(torch.equal(value, plain.state_dict()[name]) for name, value in before.items())


def test_only_matching_parameters_move():
    support, _ = task()
    learner = PMF(network(), learning_rate=0.01, steps=2, adapted=["3.*"])
    assert set(learner.adapt(support).state[0]) == {"network.3.weight", "network.3.bias"}
    with pytest.raises(ValueError, match="matches none"):
        PMF(network(), adapted=["head.*"])


def test_the_rate_is_chosen_on_validation_episodes(tmp_path, monkeypatch):
    data = DOMAINS["glyphs"].data()
    learner = PMF(Conv4(8, batch_norm="running"), steps=1, rates=[0.01, 0.0, 0.1], rate_episodes=3)
    accuracies = {0.0: [0.5, 0.5, 0.5], 0.01: [0.9, 0.7, 0.8], 0.1: [0.2, 0.9, 0.1]}
    asked = []

    def accuracy(self, episode):
        asked.append((self.rate, episode.index.item()))
        return accuracies[self.rate][episode.index.item()]

    monkeypatch.setattr(PMF, "_accuracy", accuracy)
    trainer = L.Trainer(logger=False, accelerator="cpu", inference_mode=False, enable_checkpointing=False,
                        enable_progress_bar=False, default_root_dir=tmp_path)  # fmt: skip
    assert learner.setting()["learning_rate"] is None
    trainer.test(learner, data, verbose=False)
    assert learner.setting()["learning_rate"] == 0.01
    assert asked == [(rate, index) for rate in (0.0, 0.01, 0.1) for index in range(3)]
    trainer.test(learner, data, verbose=False)
    assert len(asked) == 9  # chosen once


def test_accuracy_of_a_rate_is_that_of_its_evaluation():
    data = DOMAINS["glyphs"].data()
    torch.manual_seed(0)
    learner = PMF(Conv4(8, batch_norm="running"), steps=2, rates=[0.01]).eval()
    episode = data.episodes("val", 0, 1)
    assert learner.best_rate([episode]) == 0.01
    assert learner.rate is None
    learner.rate = 0.01
    right = learner.evaluate(episode).predictions[:, -1].argmax(-1) == episode.query.y
    assert learner._accuracy(episode) == pytest.approx(right.float().mean().item())


def test_vectors_cannot_be_augmented():
    support = Labelled(torch.rand(4, 16), torch.arange(2).repeat(2))
    with pytest.raises(ValueError, match="set learning_rate to 0"):
        PMF(network(), learning_rate=0.01).adapt(support)


@pytest.mark.parametrize(
    ("name", "value"), [("learning_rate", -1), ("steps", -1), ("rates", []), ("rates", [-1.0]), ("rate_episodes", 0)]
)
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} is "):
        PMF(network(), **{name: value})


def test_a_run_learns_as_its_test_does():
    """The rate that a test would choose, which saved settings then state."""
    data = DOMAINS["glyphs"].data()
    torch.manual_seed(0)
    learner = PMF(Conv4(8, batch_norm="running"), steps=2, rates=[0.05], rate_episodes=1).eval()
    episode = data.episodes("test")
    model = TrainedModel(learner, settings={"model": {"class_path": "PMF"}}, data=data)
    recogniser = Recogniser.learn(model, episode.support.x[0], episode.support.y[0])
    assert recogniser.model.settings["model"]["init_args"] == {"learning_rate": 0.05}
    expected = learner.evaluate(episode).predictions[0, -1].softmax(-1).numpy()
    assert learner.rate == 0.05
    assert abs(recogniser.probabilities(episode.query.x[0]) - expected).max() < 1e-5
    before = learner.evaluate(episode).predictions[0, 0].softmax(-1).numpy()
    assert abs(before - expected).max() > 1e-3


def test_random_numbers_of_half_precision_images_are_those_of_single_precision(monkeypatch):
    drawn = []
    monkeypatch.setattr("metalit.algorithms.metric.pmf.augment", lambda images, numbers, _: drawn.append(numbers))
    learner = PMF(network())
    with learner.context():
        learner.augmented(torch.zeros(2, 1, 8, 8, dtype=torch.bfloat16))
    assert drawn[0].dtype == torch.float32
