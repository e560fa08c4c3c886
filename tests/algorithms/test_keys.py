"""What is random within a task is a function of the learner's seed and the task's number in the training stream."""

from pathlib import Path

import lightning as L
import torch
from torch import nn
from torch.utils.data import DataLoader

import metalit.algorithms
from cases import DOMAINS
from metalit.algorithms import MAML
from metalit.networks import MLP


class Keys(L.Callback):
    """Notes the keys of all tasks."""

    def __init__(self):
        self.keys = []

    def on_train_batch_start(self, trainer, learner, batch, batch_idx):
        self.keys += learner.keys(batch).tolist()


def learner(seed=0):
    torch.manual_seed(seed)
    return MAML(MLP(hidden=(4,)))


def keys(learner, steps, **given):
    noted = Keys()
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", max_steps=steps,
        max_epochs=-1, limit_val_batches=0, enable_checkpointing=False, callbacks=[noted],
    )  # fmt: skip
    trainer.fit(learner, **given)
    return noted.keys


def test_keys_do_not_depend_on_how_tasks_come_in_batches():
    expected = keys(learner(), 6, datamodule=DOMAINS["sinusoid"].data(tasks_per_batch=4))
    torch.manual_seed(17)  # nothing is drawn
    assert keys(learner(), 3, datamodule=DOMAINS["sinusoid"].data(tasks_per_batch=8)) == expected
    assert len(set(expected)) == 24
    assert set(expected).isdisjoint(keys(learner(1), 6, datamodule=DOMAINS["sinusoid"].data()))


def test_keys_of_another_loader_go_by_the_episodes_too():
    data = DOMAINS["sinusoid"].data()
    batches = [data.episodes("train", first, count) for first, count in ((0, 4), (4, 3), (7, 5))]
    epoch = DataLoader(batches, batch_size=None)
    found = keys(learner(), 6, train_dataloaders=epoch, val_dataloaders=epoch)
    assert found[:12] == found[12:] == keys(learner(), 3, datamodule=data)


def test_keys_are_the_same_outside_of_a_training():
    episode = DOMAINS["sinusoid"].data().episodes("train", 4, 4)
    one = learner()
    expected = keys(learner(), 2, datamodule=DOMAINS["sinusoid"].data())[4:]
    assert one.keys(episode).tolist() == one.keys(episode).tolist() == expected
    network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    dropped = MAML(network)
    later = episode._replace(index=episode.index + 4)
    assert torch.equal(dropped(episode).predictions, dropped(episode).predictions)
    assert not torch.equal(dropped(episode).predictions, dropped(later).predictions)


def test_evaluation_draws_nothing():
    episode = DOMAINS["sinusoid"].data().episodes("test", 0, 4)
    assert learner().eval().keys(episode).tolist() == [0] * 4


def test_algorithms_know_nothing_of_the_data():
    for file in Path(metalit.algorithms.__file__).parent.rglob("*.py"):
        assert "metalit.data" not in file.read_text(), file
