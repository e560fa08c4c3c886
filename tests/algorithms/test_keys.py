"""What is random within a task is a function of the learner's seed and the task's place in the training stream."""

import lightning as L
import torch
from torch.utils.data import DataLoader

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


def test_with_an_unknown_loader_batches_are_counted():
    data = DOMAINS["sinusoid"].data()
    epoch = DataLoader([data.episodes("train", 4 * batch, 4) for batch in range(2)], batch_size=None)
    found = keys(learner(), 6, train_dataloaders=epoch, val_dataloaders=epoch)
    assert found == keys(learner(), 6, datamodule=data)


def test_without_a_training_they_are_drawn_anew():
    episode = DOMAINS["sinusoid"].data().episodes("train", 0, 4)
    one = learner()
    assert len({*one.keys(episode).tolist(), *one.keys(episode).tolist()}) == 8


def test_evaluation_draws_nothing():
    episode = DOMAINS["sinusoid"].data().episodes("test", 0, 4)
    assert learner().eval().keys(episode).tolist() == [0] * 4
