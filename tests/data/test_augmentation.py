"""Augmentation of training episodes: pure, whatever prepares or groups them, and of training alone."""

import json

import lightning as L
import numpy as np
import pytest
import torch

from cases import DOMAINS
from metalit.algorithms import PrototypicalNetwork
from metalit.data import Augmentation, ClassificationDataModule, ClassStore, Glyphs
from metalit.data.augmentation import AUGMENTATION, uniform32
from metalit.functional.augmentation import NUMBERS, augment
from metalit.networks import Conv4

SETTINGS = {"crop": 3, "flip": True, "brightness": 0.4, "contrast": 0.4, "erasing": 0.3}


def data(augmented=True, **settings):
    augmentation = Augmentation(**SETTINGS) if augmented else None
    return DOMAINS["glyphs"].data(classes=16, augmentation=augmentation, **settings)


def images(episode):
    return torch.cat([episode.support.x, episode.query.x], 1)


def rows(first=0, count=4, **settings):
    return images(data(**settings).episodes("train", first, count))


class Seen(L.Callback):
    """Notes the episodes as the learner sees them, by their number."""

    def __init__(self):
        self.images = {}

    def on_train_batch_start(self, trainer, learner, batch, batch_idx):
        self.images |= dict(zip(batch.index.tolist(), images(batch).clone(), strict=True))


def seen(module, steps, **trained):
    noted = Seen()
    trainer = L.Trainer(
        logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu", max_steps=steps,
        max_epochs=-1, limit_val_batches=0, enable_checkpointing=False, callbacks=[noted],
    )  # fmt: skip
    trainer.fit(PrototypicalNetwork(Conv4(2)), module, **trained)
    return noted.images, trainer


def test_training_images_are_those_of_the_stream_transformed_by_their_own_numbers():
    plain, found = rows(augmented=False), rows()
    assert not torch.equal(found, plain)
    words = np.random.Philox(key=np.array([AUGMENTATION, 0], dtype=np.uint64)).random_raw(15 * NUMBERS)
    numbers = torch.from_numpy(uniform32(words)).reshape(15, NUMBERS)
    assert torch.equal(found[0], augment(plain[0], numbers, Augmentation(**SETTINGS)))


def test_labels_and_choice_of_examples_stay():
    found, plain = (data(augmented).episodes("train", 3, 2) for augmented in (True, False))
    assert torch.equal(found.support.y, plain.support.y)
    assert torch.equal(found.index, plain.index)
    classes = [data(augmented) for augmented in (True, False)]
    for module in classes:
        module.episodes("train")
    assert np.array_equal(*(module.streams["train"].classes(5) for module in classes))


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_is_not_augmented(split):
    assert torch.equal(images(data().episodes(split, 0, 2)), images(data(False).episodes(split, 0, 2)))


def test_episode_i_is_the_same_alone_and_among_others():
    whole = rows(0, 6)
    assert torch.equal(rows(4, 1)[0], whole[4])
    assert torch.equal(rows(2, 3), whole[2:5])


def test_examples_episodes_and_seeds_have_numbers_of_their_own():
    module = data()
    module.setup("fit")
    episode = module.streams["train"](0, 3)
    numbers = torch.cat([episode.support.x.numbers, episode.query.x.numbers], 1)
    assert len(numbers.flatten().unique()) > 0.99 * numbers.numel()
    assert 0 <= numbers.min() < 0.05
    assert 0.95 < numbers.max() < 1
    other = data(seed=1)
    other.setup("fit")
    assert not torch.equal(other.streams["train"](0, 3).support.x.numbers, episode.support.x.numbers)


def test_numbers_are_below_one():
    assert uniform32(np.array([2**64 - 1, 0], dtype=np.uint64)).tolist() == [1 - 2**-24, 0]


@pytest.mark.parametrize("settings", [{"tasks_per_batch": 2}, {"num_workers": 1, "tasks_per_batch": 4}])
def test_meta_batch_and_workers_change_nothing(settings):
    found, _ = seen(data(**settings), 8 // settings["tasks_per_batch"])
    expected = rows(0, 8)
    assert sorted(found) == list(range(8))
    assert all(torch.equal(found[i], expected[i]) for i in found)


def test_ranks_change_nothing():
    expected = rows(0, 8)
    for rank in range(2):
        module = data(tasks_per_batch=2)
        module._rank_and_world_size = lambda rank=rank: (rank, 2)
        module.setup("fit")
        batches = [module.finish(batch, "train") for batch in module.train_dataloader()]
        found = dict(
            zip(
                torch.cat([batch.index for batch in batches]).tolist(),
                torch.cat(list(map(images, batches))),
                strict=True,
            )
        )
        assert sorted(found) == [2 * rank, 2 * rank + 1, 2 * rank + 4, 2 * rank + 5]
        assert all(torch.equal(found[i], expected[i]) for i in found)


def test_a_resumed_run_sees_the_next_episodes(tmp_path):
    _, trainer = seen(data(tasks_per_batch=2), 3)
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    found, _ = seen(data(tasks_per_batch=2), 5, ckpt_path=tmp_path / "run.ckpt")
    assert sorted(found) == [6, 7, 8, 9]
    expected = rows(6, 4)
    assert all(torch.equal(found[6 + i], expected[i]) for i in range(4))


def test_results_state_it():
    stated = data().setting()["augmentation"]
    assert stated == repr(Augmentation(**SETTINGS))
    json.dumps(data().setting())
    assert "augmentation" not in data(False).setting()


class Vectors(ClassificationDataModule):
    def load(self, split):
        return ClassStore.from_classes({f"{split}/{c}": torch.zeros(30, 7) for c in range(6)})


class Words(ClassificationDataModule):
    def load(self, split):
        pair = {"ids": torch.zeros(30, 7, dtype=torch.int64), "mask": torch.ones(30, 7)}
        return ClassStore.from_classes({f"{split}/{c}": pair for c in range(6)})


@pytest.mark.parametrize(("kind", "found"), [(Vectors, r"\[7\]"), (Words, "dict")])
def test_what_is_no_image_is_refused(kind, found):
    with pytest.raises(ValueError, match=rf"data\.augmentation is Augmentation\(.*no image but {found}"):
        kind(augmentation=Augmentation(flip=True)).episodes("train")


def test_saturation_of_images_without_colours_is_refused():
    with pytest.raises(ValueError, match=r"data\.augmentation\.saturation is 0.4, expected 0.*1 channels"):
        Glyphs(classes=8, augmentation=Augmentation(saturation=0.4)).episodes("train")
