"""``forward`` is a function of the weights and the episode: nothing that happens in between changes it."""

from copy import deepcopy

import lightning as L
import pytest
import torch
from torch.utils._pytree import tree_leaves

from cases import CASES
from metalit import MAML
from metalit.networks import MLP
from metalit.objectives import MultiStepLoss


def trained(learner, data, folder, epochs):
    """Train, and put the weights back."""
    before = deepcopy(learner.state_dict())
    trainer = L.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=folder,
    )  # fmt: skip
    trainer.fit(learner.train(), data)
    learner.load_state_dict(before)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.service
@pytest.mark.sample(3)
def test_twice_with_training_in_between(name, training, tmp_path):
    domain = next(iter(CASES[name].learning))
    torch.manual_seed(0)
    learner, data = CASES[name].make(domain, dropout=0.2), CASES[name].data(domain)
    episode = data.episodes("train", 3, 4)
    learner.train(training)
    first = learner(episode)
    trained(learner, data, tmp_path, epochs=1)
    learner.train(training)
    again = learner(episode)
    for one, other in zip(tree_leaves(first), tree_leaves(again), strict=True):
        assert torch.equal(one, other)


def test_an_annealed_objective_finds_its_measures_after_training(tmp_path):
    torch.manual_seed(0)
    data = CASES["MAML"].data("sinusoid")
    learner = MAML(MLP(), inner_steps=2, objective=MultiStepLoss(epochs=3))
    episode = data.episodes("train", 0, 4)
    first = learner.objective.total(learner(episode))
    trained(learner, data, tmp_path, epochs=5)
    assert torch.equal(learner.objective.total(learner(episode)), first)


def test_the_order_of_derivatives_does_not_depend_on_the_epoch_trained_last(tmp_path):
    def gradient():
        learner.zero_grad()
        learner(episode).loss.mean().backward()
        return [parameter.grad.clone() for parameter in learner.network.parameters()]

    torch.manual_seed(0)
    data = CASES["MAMLPlusPlus"].data("sinusoid")
    learner = CASES["MAMLPlusPlus"].make("sinusoid", first_order_epochs=10)
    episode = data.episodes("train", 0, 4)
    first = gradient()
    trained(learner, data, tmp_path, epochs=1)
    assert all(torch.equal(one, other) for one, other in zip(first, gradient(), strict=True))


def test_a_training_step_without_a_trainer_names_what_to_call():
    learner, data = CASES["MAML"].make("sinusoid"), CASES["MAML"].data("sinusoid")
    with pytest.raises(RuntimeError, match=r"MAML has no Trainer: .* learner\.meta_loss\(episode\)"):
        learner.training_step(data.episodes("train", 0, 2), 0)
    learner.meta_loss(data.episodes("train", 0, 2)).backward()
    assert all(parameter.grad is not None for parameter in learner.parameters())
