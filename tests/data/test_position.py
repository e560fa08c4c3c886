"""Training goes through its stream once, whoever makes the loaders and however often training is stopped."""

import lightning as L
import pytest
import torch

from metalit.algorithms import MAML
from metalit.data import Sinusoid
from metalit.networks import MLP

B, STEPS = 2, 5  # of an epoch


class Seen(L.Callback):
    """Notes the episodes of each epoch, and the steps after which validation ran."""

    def __init__(self):
        self.epochs, self.validated = {}, []

    def on_train_batch_start(self, trainer, learner, batch, batch_idx):
        self.epochs.setdefault(trainer.current_epoch, []).extend(batch.index.tolist())

    def on_validation_end(self, trainer, learner):
        self.validated.append(trainer.global_step)

    @property
    def episodes(self):
        return [episode for epoch in self.epochs.values() for episode in epoch]


class Saves(L.Callback):
    """Saves after so many steps, in the midst of an epoch or after its last batch."""

    def __init__(self, step, path):
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


class Reads(MAML):
    """Asks for the number of steps, as a schedule with warm-up does: Lightning then makes the loader early."""

    def configure_optimizers(self):
        assert self.trainer.estimated_stepping_batches > 0
        return super().configure_optimizers()


def learner(algorithm=MAML):
    torch.manual_seed(0)
    return algorithm(MLP(hidden=(4,)))


def data(**settings):
    sizes = {"tasks_per_batch": B, "episodes_per_epoch": B * STEPS, "val_episodes": 1, "test_episodes": 1}
    return Sinusoid(**(sizes | settings))


def make_trainer(*callbacks, **options):
    seen = Seen()
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        accelerator="cpu", num_sanity_val_steps=0, inference_mode=False, callbacks=[seen, *callbacks], **options,
    )  # fmt: skip
    return trainer, seen


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_that_are_made_again_go_on(workers):
    trainer, seen = make_trainer(max_epochs=3, reload_dataloaders_every_n_epochs=1)
    trainer.fit(learner(), data(num_workers=workers))
    assert seen.episodes == list(range(3 * STEPS * B))


def test_a_second_fit_goes_on():
    one, module = learner(), data()
    trainer, seen = make_trainer(max_epochs=1)
    trainer.fit(one, module)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(one, module)
    other, later = make_trainer(max_steps=2)
    other.fit(one, module)
    assert seen.episodes + later.episodes == list(range((2 * STEPS + 2) * B))


def test_a_fit_after_one_that_stopped_in_an_epoch_has_whole_epochs():
    one, module = learner(), data()
    make_trainer(max_steps=3)[0].fit(one, module)
    trainer, seen = make_trainer(max_epochs=2)
    trainer.fit(one, module)
    assert [len(epoch) for epoch in seen.epochs.values()] == [STEPS * B] * 2
    assert seen.episodes == list(range(3 * B, (3 + 2 * STEPS) * B))
    assert seen.validated == [STEPS, 2 * STEPS]


@pytest.mark.parametrize("limit", [3, 0.6])
def test_epochs_that_lightning_limits_are_equally_long_and_lose_nothing(limit):
    trainer, seen = make_trainer(max_epochs=4, limit_train_batches=limit)
    trainer.fit(learner(), data())
    assert seen.episodes == list(range(4 * 3 * B))
    assert seen.validated == [3, 6, 9, 12]


@pytest.mark.parametrize("algorithm", [MAML, Reads])
@pytest.mark.parametrize("stopped", [3, 5, 8])
@pytest.mark.parametrize("options", [{}, {"reload_dataloaders_every_n_epochs": 1}], ids=["", "reloaded"])
def test_a_resume_sees_the_very_next_episode(algorithm, stopped, options, tmp_path):
    trainer, before = make_trainer(Saves(stopped, tmp_path / "stopped.ckpt"), max_steps=stopped, **options)
    trainer.fit(learner(algorithm), data())
    resumed, after = make_trainer(max_epochs=3, **options)
    resumed.fit(learner(algorithm), data(), ckpt_path=tmp_path / "stopped.ckpt")
    assert before.episodes + after.episodes == list(range(3 * STEPS * B))


@pytest.mark.parametrize("algorithm", [MAML, Reads])
@pytest.mark.parametrize("stopped", [3, 5])
def test_a_checkpoint_after_the_end_goes_on_with_whole_epochs(algorithm, stopped, tmp_path):
    """For Lightning an epoch in which training stopped is over."""
    trainer, before = make_trainer(max_steps=stopped)
    trainer.fit(learner(algorithm), data())
    trainer.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed, after = make_trainer(max_epochs=3)
    resumed.fit(learner(algorithm), data(), ckpt_path=tmp_path / "stopped.ckpt")
    assert before.episodes + after.episodes == list(range((stopped + 2 * STEPS) * B))
    assert after.validated == [stopped + STEPS, stopped + 2 * STEPS]


def test_a_checkpoint_that_has_only_the_loaders_place_is_taken_up_too(tmp_path):
    trainer, before = make_trainer(Saves(8, tmp_path / "new.ckpt"), max_steps=8)
    trainer.fit(learner(), data())
    state = torch.load(tmp_path / "new.ckpt", weights_only=False)
    assert state.pop("Sinusoid") == {"episodes": 8 * B, "epoch_start": STEPS * B, "epoch": 1}
    (loader,) = state["loops"]["fit_loop"]["state_dict"]["combined_loader"]
    del loader["epoch"]
    torch.save(state, tmp_path / "old.ckpt")
    resumed, after = make_trainer(max_epochs=3)
    resumed.fit(learner(), data(), ckpt_path=tmp_path / "old.ckpt")
    assert before.episodes + after.episodes == list(range(3 * STEPS * B))


def test_a_test_of_a_checkpoint_moves_nothing(tmp_path):
    one, module = learner(), data()
    trainer, seen = make_trainer(max_epochs=2)
    trainer.fit(one, module)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    trainer.fit_loop.max_epochs = 3
    trainer.fit(one, module)
    trainer.test(one, module, ckpt_path=tmp_path / "two.ckpt", verbose=False)
    trainer.fit_loop.max_epochs = 4
    trainer.fit(one, module)
    assert seen.episodes == list(range(4 * STEPS * B))
