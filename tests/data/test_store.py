import numpy as np
import pytest
import torch

from metalit.data.store import ClassStore, to_unit_interval


@pytest.fixture
def store():
    return ClassStore.from_classes(
        {"a": torch.tensor([[1.0], [2.0]]), "b": torch.tensor([[3.0], [4.0], [5.0]])}
    )


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
