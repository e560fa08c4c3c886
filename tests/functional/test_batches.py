"""Batches of examples: every example once, in the order of the input, and texts with little padding."""

import torch

from metalit.episode import MarkedTokens, Tokens
from metalit.functional.batches import by_batches, in_batches, without_padding


def texts(lengths):
    longest = -(-max(lengths) // 8) * 8
    mask = torch.arange(longest) < torch.tensor(lengths)[:, None]
    ids = torch.arange(1, len(lengths) + 1)[:, None] * mask
    return Tokens(ids, mask)


def test_results_are_in_the_order_of_the_examples():
    x = texts([20, 3, 9, 30, 3, 8, 17])
    found = by_batches(lambda part: part.ids[:, 0].double(), x, size=2)
    assert found.tolist() == [1, 2, 3, 4, 5, 6, 7]
    images = torch.rand(5, 3, 2, 2)
    assert torch.equal(by_batches(lambda part: part.flatten(1), images, size=3), images.flatten(1))


def test_short_texts_are_not_padded_to_long_ones():
    seen = [(len(rows), *part.ids.shape) for rows, part in in_batches(texts([20, 3, 9, 30, 3, 8, 17]), size=3)]
    assert seen == [(3, 3, 8), (3, 3, 24), (1, 1, 32)]


def test_images_stay_in_their_order():
    rows = [rows.tolist() for rows, _ in in_batches(torch.rand(5, 2), size=2)]
    assert rows == [[0, 1], [2, 3], [4]]


def test_no_examples_are_one_empty_batch():
    assert by_batches(
        lambda part: part.ids.double(), texts([4])._replace(ids=torch.zeros(0, 8), mask=torch.zeros(0, 8)), 4
    ).shape == (0, 8)
    assert by_batches(lambda part: part, torch.rand(0, 3), size=4).shape == (0, 3)


def test_padding_that_all_have_is_left_out_and_marks_stay():
    x = texts([3, 9])
    wide = MarkedTokens(*(torch.nn.functional.pad(leaf, (0, 24)) for leaf in x), torch.tensor([[0, 1], [2, 3]]))
    narrow = without_padding(wide)
    assert torch.equal(narrow.ids, x.ids)
    assert torch.equal(narrow.mask, x.mask)
    assert torch.equal(narrow.spans, wide.spans)
    image = torch.rand(2, 3)
    assert without_padding(image) is image
