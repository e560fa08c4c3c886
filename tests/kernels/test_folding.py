"""Sums over the tasks, whose tensors lie in an order of memory of their own."""

import pytest
import torch

from metalit.kernels.folding import summed

WEIGHTS = torch.randn(4, 3, 2, 5, 6, generator=torch.Generator().manual_seed(0)).double()


@pytest.mark.parametrize("axis", [0, 1, 4])
@pytest.mark.parametrize("order", [(0, 1, 2, 3, 4), (0, 4, 3, 1, 2), (0, 1, 4, 2, 3)])
def test_sum_over_an_axis(axis, order):
    tensor = WEIGHTS.permute(order)
    found = summed(tensor, axis)
    torch.testing.assert_close(found, tensor.sum(axis, keepdim=True), rtol=0, atol=1e-14)


def test_a_sum_lies_in_memory_as_its_terms_do():
    found = summed(WEIGHTS.permute(0, 4, 3, 1, 2), 0)[0]
    assert found.permute(2, 3, 1, 0).is_contiguous()
