"""The kernels' convolutions against torch's: odd numbers of channels, filters, strides, dilations, and threads."""

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

from metalit.kernels import Form, conv_block, missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no kernels: {missing()}")


class Case(NamedTuple):
    inputs: int
    outputs: int
    images: tuple[int, int, int] = (3, 9, 8)  # number, height, width
    filter: tuple[int, int] = (3, 3)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    @property
    def settings(self):
        return self.stride, self.padding, self.dilation


CASES = {
    "colours": Case(3, 8),
    "ten outputs of five inputs": Case(5, 10, stride=(2, 2)),
    "half a vector more": Case(16, 24),
    "several vectors and one value": Case(9, 65, images=(2, 4, 5)),
    "more inputs than outputs": Case(33, 2),
    "one image": Case(4, 48, images=(1, 5, 5)),
    "one value": Case(7, 6, filter=(1, 1), padding=(0, 0)),
    "one value, strided": Case(6, 7, filter=(1, 1), stride=(2, 2), padding=(0, 0)),
    "one value in zeros": Case(2, 3, filter=(1, 1), stride=(2, 1)),
    "wide filter": Case(2, 5, filter=(5, 5), padding=(2, 2)),
    "uneven filter, strides and dilation": Case(4, 6, filter=(3, 2), stride=(3, 1), padding=(2, 1), dilation=(2, 3)),
    "filter as large as the image": Case(3, 4, images=(4, 3, 3), filter=(5, 4)),
    "images in parts": Case(2, 8, images=(7, 44, 40), stride=(1, 2)),
}


def tensors(case, tasks, dtype):
    make = torch.Generator().manual_seed(0)
    n, height, width = case.images
    shapes = (
        (n, case.inputs, height, width),
        (case.outputs, case.inputs, *case.filter),
        (case.outputs,),
        (case.outputs,),
    )
    return [torch.randn(tasks, *shape, generator=make, dtype=torch.float64).to(dtype) for shape in shapes]


def by_kernels(case, x, weight, gamma, beta):
    return conv_block(x, weight, gamma, beta, Form(*case.settings, pool=1)).maps


def by_torch(case, x, weight, gamma, beta):
    convolved = [F.conv2d(a, b, None, *case.settings) for a, b in zip(x, weight, strict=True)]
    normed = [F.batch_norm(y, None, None, a, b, training=True) for y, a, b in zip(convolved, gamma, beta, strict=True)]
    return torch.stack(normed).relu()


def derivatives(block, case, given):
    """The maps, the derivatives of a combination of them, and those of a combination of these."""
    make = torch.Generator().manual_seed(1)

    def random(values):
        return [torch.randn(v.shape, generator=make, dtype=torch.float64).to(v.dtype) for v in values]

    given = [tensor.clone().requires_grad_() for tensor in given]
    maps = block(case, *given)
    weights = [each.requires_grad_() for each in random([maps])]
    first = torch.autograd.grad([maps], given, weights, create_graph=True)
    second = torch.autograd.grad(first, [*given, *weights], random(first), allow_unused=True, materialize_grads=True)
    return [maps, *first, *second]


def assert_same(found, expected, tolerance):
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one.double() / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_maps_and_derivatives_are_torchs(case):
    case, given = CASES[case], tensors(CASES[case], 2, torch.float64)
    expected = derivatives(by_torch, case, given)
    assert_same(derivatives(by_kernels, case, given), expected, 1e-10)
    single = derivatives(by_kernels, case, [tensor.float() for tensor in given])
    assert all(each.dtype == torch.float32 for each in single)
    assert_same(single, expected, 1e-3)


def test_sums_over_many_pixels_are_exact():
    case = Case(1, 3, images=(75, 28, 28))
    given, upper = tensors(case, 1, torch.float64), torch.arange(28)[:, None] < 14

    def gradient(dtype):
        x, weight, gamma, beta = (tensor.to(dtype) for tensor in given)
        weight.requires_grad_()
        y = conv_block(x, weight, gamma, beta, Form(*case.settings, pool=1, slope=1.0))
        return torch.autograd.grad((y.maps * upper).sum(), weight)[0]

    exact = gradient(torch.float64)
    # 8.6e-6 if all pixels are added one after the other
    assert (gradient(torch.float32) - exact).abs().max() < 6e-6 * exact.abs().max()


@pytest.mark.parametrize("tasks", [1, 4])  # a single task is shared out by its images and channels
@pytest.mark.parametrize("side", [20, 40])  # in one part, and in several
def test_threads_change_no_bit(tasks, side):
    case, threads = Case(32, 24, images=(5, side, side)), torch.get_num_threads()
    given = tensors(case, tasks, torch.float32)

    def run(count):
        torch.set_num_threads(count)
        return derivatives(by_kernels, case, given)

    try:
        one, *more = run(1), run(2), run(3)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for other in more for a, b in zip(one, other, strict=True))
