import lightning as L
import numpy as np
import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from metalit import MAML, PrototypicalNetwork
from metalit.data import ClassificationDataModule
from metalit.data.store import ClassStore
from metalit.functional.examples import to_unit_interval
from metalit.networks import Classifier


@pytest.fixture
def store():
    return ClassStore.from_classes({"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[3.0], [4.0], [5.0]])})


def test_from_classes_puts_class_after_class(store):
    assert store.items.flatten().tolist() == [1, 2, 3, 4, 5]
    assert store.class_sizes.tolist() == [2, 3]
    assert list(store.class_names) == ["a", "b"]


def test_take_gathers_rows_of_any_shape(store):
    rows = torch.tensor([[4, 0], [2, 2]])
    assert torch.equal(store.take(rows), torch.tensor([[[5.0], [1.0]], [[3.0], [3.0]]]))


def test_to_moves_the_items_and_keeps_the_rest(store):
    moved = store.to(torch.device("meta"))
    assert moved.items.device.type == "meta"
    assert moved.class_names == store.class_names
    assert np.array_equal(moved.class_sizes, store.class_sizes)


def test_items_may_be_a_pytree():
    """Token ids and their mask, for example."""
    classes = {
        name: {"ids": torch.full((n, 3), n), "mask": torch.ones(n, 3, dtype=torch.bool)}
        for name, n in (("a", 2), ("b", 4))
    }
    store = ClassStore.from_classes(classes)
    assert store.class_sizes.tolist() == [2, 4]
    taken = store.to(torch.device("cpu")).take(torch.tensor([[0, 5]]))
    assert torch.equal(taken["ids"], torch.tensor([[[2, 2, 2], [4, 4, 4]]]))
    assert taken["mask"].shape == (1, 2, 3)
    with pytest.raises(ValueError, match="5 and 6 items"):
        ClassStore({"ids": torch.zeros(6, 1), "mask": torch.zeros(5, 1)}, np.array([2, 4]), ["a", "b"])


class Tokens(ClassificationDataModule):
    """Sentences of six tokens, of twenty classes."""

    def load(self, split):
        generator = torch.Generator().manual_seed(0)
        return ClassStore.from_classes(
            {
                f"{split}/{c}": {
                    "ids": torch.randint(1, 50, (8, 6), generator=generator),
                    "mask": torch.ones(8, 6),
                }
                for c in range(20)
            }
        )


class BagOfTokens(nn.Module):
    features = 16

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16, padding_idx=0)

    def forward(self, x):
        return (self.embedding(x["ids"]) * x["mask"].unsqueeze(-1)).mean(dim=1)


@pytest.mark.parametrize("make", [lambda n: PrototypicalNetwork(n), lambda n: MAML(Classifier(n, ways=3))])
def test_a_data_module_of_token_ids_and_masks_trains_and_is_adapted_to(make, tmp_path):
    data = Tokens(ways=3, queries=2, tasks_per_batch=2, episodes_per_epoch=4, val_episodes=3, test_episodes=3)
    trainer = L.Trainer(
        max_epochs=1, logger=False, accelerator="cpu", inference_mode=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, default_root_dir=tmp_path,
        use_distributed_sampler=False,
    )  # fmt: skip
    learner = make(BagOfTokens())
    trainer.fit(learner, data)
    episode = data.episodes("test")
    support, query = tree_map(lambda leaf: leaf[0], (episode.support, episode.query))
    assert learner.adapt(support)(query.x).shape == (6, 3)


@pytest.mark.parametrize(
    ("items", "sizes", "names"), [(4, [2, 3], ["a", "b"]), (5, [2, 3], ["a"]), (5, [5], ["a", "b"])]
)
def test_parts_that_do_not_fit_are_refused(items, sizes, names):
    with pytest.raises(ValueError, match=f"{items} items.*do not fit"):
        ClassStore(torch.zeros(items, 1), np.array(sizes), names)


def test_images_become_floats_between_0_and_1():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    assert torch.equal(to_unit_interval(images), torch.tensor([0.0, 0.2, 1.0]))


def test_images_follow_the_default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        assert to_unit_interval(torch.tensor([255], dtype=torch.uint8)).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("x", [torch.tensor([3.5]), torch.tensor([7], dtype=torch.int64)])
def test_anything_but_images_stays_as_it_is(x):
    assert to_unit_interval(x) is x
