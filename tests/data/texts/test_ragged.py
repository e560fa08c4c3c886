"""Texts of different lengths in one store: padding, and the same length for support and query."""

import numpy as np
import torch

from metalit.data import ClassStore
from metalit.data.texts.ragged import LazyTokens, RaggedTokens
from metalit.episode import MarkedTokens, Tokens

LENGTHS = [3, 9, 1, 8, 17]


def ragged(spans=False):
    offsets = torch.tensor([0, *np.cumsum(LENGTHS)])
    ids = torch.arange(1, sum(LENGTHS) + 1, dtype=torch.int32)
    return RaggedTokens(ids, offsets, torch.tensor([[0, at % 2] for at in range(5)]) if spans else None)


def store(items):
    return ClassStore(items, np.array([3, 2]), ["a", "b"])


def test_a_selection_is_padded_to_a_multiple_of_8():
    for rows, length in (([0, 2], 8), ([3], 8), ([1, 0], 16), ([4], 24)):
        tokens = store(ragged()).take(torch.tensor(rows))
        assert isinstance(tokens, Tokens)
        assert tokens.ids.shape == tokens.mask.shape == (len(rows), length)
        assert (tokens.ids.dtype, tokens.mask.dtype) == (torch.int64, torch.bool)
        assert tokens.mask.sum(1).tolist() == [LENGTHS[row] for row in rows]
        for row, ids, mask in zip(rows, *tokens, strict=True):
            first = sum(LENGTHS[:row]) + 1
            assert ids[mask].tolist() == list(range(first, first + LENGTHS[row]))
            assert mask[: LENGTHS[row]].all()
            assert not ids[~mask].any()


def test_support_and_query_have_one_length():
    support, query = store(ragged()).parts(torch.tensor([[0], [2]]), torch.tensor([[1, 3], [0, 0]]))
    assert support.ids.shape == (2, 1, 16)
    assert query.ids.shape == (2, 2, 16)


def test_marks_come_along():
    tokens = store(ragged(spans=True)).take(torch.tensor([[1, 2]]))
    assert isinstance(tokens, MarkedTokens)
    assert tokens.spans.tolist() == [[[0, 1], [0, 0]]]


def test_chosen_texts_are_those():
    chosen = ragged(spans=True).selected(np.array([4, 0, 2]))
    whole, part = ragged(spans=True).take(torch.tensor([4, 0, 2])), chosen.take(torch.arange(3))
    assert all(torch.equal(one, other) for one, other in zip(whole, part, strict=True))
    assert len(chosen) == 3


def test_texts_become_tokens_when_they_are_needed():
    made = []

    def make():
        made.append(1)
        return ragged()

    lazy = store(LazyTokens(5, make))
    assert len(lazy.items) == 5
    assert made == []
    one, other = lazy.take(torch.tensor([3])), lazy.to(torch.device("meta")).items
    assert (made, one.ids.shape, other.device.type) == ([1], (1, 8), "meta")


def test_no_rows_have_no_texts():
    tokens = store(ragged()).take(torch.zeros(2, 0, dtype=torch.int64))
    assert tokens.ids.shape == (2, 0, 8)
