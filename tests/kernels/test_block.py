"""The kernels of a block against torch's functions, in float64: values and derivatives of three orders."""

import ctypes
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, vmap

from metalit.kernels import Form, conv_block, missing
from metalit.kernels.library import compiled, compiler, library

pytestmark = pytest.mark.skipif(missing() is not None, reason=f"no kernels: {missing()}")

PADDED = partial(Form, padding=(1, 1))
# form, images, channels of the images, height, width; three outputs
CASES = {
    "pool": (PADDED(), 3, 2, 6, 6),
    "pool, odd sides": (PADDED(), 2, 2, 7, 5),
    "one image": (PADDED(), 1, 1, 4, 4),
    "stride": (PADDED(stride=(2, 2), pool=1), 3, 2, 7, 6),
    "leaky, no padding": (Form(slope=0.1), 2, 2, 8, 8),
    "leaky, no pooling": (PADDED(slope=0.1, pool=1, eps=0.1), 2, 3, 4, 4),
    "dilation": (Form(dilation=(2, 1), padding=(2, 0)), 2, 2, 6, 7),
}
OUTPUTS = 3


def tensors(case, tasks):
    """Images, weights, scale and shift of each task; the last output is constant, so that its maxima are ties."""
    _, n, inputs, height, width = CASES[case]
    make = torch.Generator().manual_seed(0)
    x, weight = (
        torch.randn(tasks, *shape, generator=make, dtype=torch.float64)
        for shape in ((n, inputs, height, width), (OUTPUTS, inputs, 3, 3))
    )
    weight[:, -1] = 0
    gamma = torch.tensor([1.5, -0.5, 0.7], dtype=torch.float64) + 0.1 * torch.arange(tasks)[:, None]
    beta = torch.tensor([0.2, 0.3, 0.4], dtype=torch.float64).repeat(tasks, 1)
    return x, weight, gamma, beta


def by_torch(form, x, weight, gamma, beta):
    """The block of one task by torch's functions."""
    y = F.conv2d(x, weight, None, form.stride, form.padding, form.dilation)
    # not F.batch_norm, whose third derivative is wrong in torch 2.13 (pytorch issue 186256)
    variance, mean = torch.var_mean(y, (0, 2, 3), correction=0, keepdim=True)
    h = (y - mean) / (variance + form.eps).sqrt()
    z = F.leaky_relu(h * gamma[:, None, None] + beta[:, None, None], form.slope)
    return F.max_pool2d(z, form.pool) if form.pool > 1 else z


def by_kernels(form, *tensors):
    return conv_block(*[tensor[None] for tensor in tensors], form).maps[0]


def derivatives(block, given, orders=3):
    """The value of a block and its derivatives up to an order, each of a random combination of those before."""
    make = torch.Generator().manual_seed(1)

    def mixed(values):
        return sum((torch.randn(v.shape, generator=make, dtype=v.dtype) * v).sum() for v in values)

    given = [tensor.clone().requires_grad_() for tensor in given]
    results = [(block(*given),)]
    for order in range(orders):
        # squared, so that each order depends on the derivatives of the one before
        results.append(
            torch.autograd.grad(mixed(results[-1]).square(), given, create_graph=order < orders - 1, allow_unused=True)
        )
        results[-1] = tuple(torch.zeros_like(x) if g is None else g for g, x in zip(results[-1], given, strict=True))
    return [leaf for result in results for leaf in result]


def assert_same(found, expected, tolerance=1e-10):
    for one, other in zip(found, expected, strict=True):
        scale = max(1.0, other.abs().max().item())
        torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("case", CASES)
def test_value_and_three_derivatives_are_torchs(case):
    form, given = CASES[case][0], [tensor[0] for tensor in tensors(case, 1)]
    assert_same(derivatives(partial(by_kernels, form), given), derivatives(partial(by_torch, form), given))


@pytest.mark.parametrize("shared", ["", "weights", "images", "norm"])
def test_tasks_of_vmap_are_those_of_a_loop(shared):
    case, tasks = "pool, odd sides", 3
    form, given = CASES[case][0], list(tensors(case, tasks))
    dims = [None if (shared, i) in {("images", 0), ("weights", 1), ("norm", 2), ("norm", 3)} else 0 for i in range(4)]
    given = [tensor[0] if dim is None else tensor for tensor, dim in zip(given, dims, strict=True)]

    def adapted_loss(block, *given):
        """The loss after an inner step, whose derivative is of second order."""
        inner = grad(lambda *own: block(*own).square().sum(), (1, 2, 3))(*given)
        moved = [tensor - 0.1 * step for tensor, step in zip(given[1:], inner, strict=True)]
        return block(given[0], *moved).square().sum()

    def total(block, *given):
        return vmap(partial(adapted_loss, block), tuple(dims))(*given).sum()

    def looped(block, *given):
        rows = [[each if dim is None else each[t] for each, dim in zip(given, dims, strict=True)] for t in range(tasks)]
        return sum(adapted_loss(block, *row) for row in rows)

    every = (0, 1, 2, 3)
    found = grad(partial(total, partial(by_kernels, form)), every)(*given)
    assert_same(found, grad(partial(looped, partial(by_torch, form)), every)(*given))


def test_derivatives_by_differences():
    form, given = CASES["pool"][0], [tensor[0].requires_grad_() for tensor in tensors("pool", 1)]
    given = [
        given[0],
        given[1].detach()[:2].requires_grad_(),
        *[each.detach()[:2].requires_grad_() for each in given[2:]],
    ]
    block = partial(by_kernels, form)
    assert torch.autograd.gradcheck(block, given, fast_mode=True)
    assert torch.autograd.gradgradcheck(block, given, fast_mode=True)


def test_threads_change_no_bit():
    case, threads = "pool", torch.get_num_threads()
    form, given = CASES[case][0], [tensor.float() for tensor in tensors(case, 5)]

    def run(count):
        torch.set_num_threads(count)
        return derivatives(lambda *own: conv_block(*own, form).maps, given, orders=2)

    try:
        one, two = run(1), run(2)
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_statistics_are_those_of_the_convolution():
    case = "pool, odd sides"
    form, (x, weight, gamma, beta) = CASES[case][0], tensors(case, 2)
    _, mean, variance = conv_block(x, weight, gamma, beta, form)
    y = torch.stack([F.conv2d(a, b, padding=1) for a, b in zip(x, weight, strict=True)])
    expected = torch.var_mean(y, (1, 3, 4), correction=0)
    assert_same((variance, mean), expected)


def test_numbers_that_are_not_finite_stay_so():
    form, (x, *others) = CASES["pool"][0], tensors("pool", 1)
    x[0, 0, 0, 0, 0] = torch.nan
    assert conv_block(x, *others, form).maps[0, :, :2].isnan().all()


def test_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = {"seven.cpp": b'#include "number.h"', "number.h": b'extern "C" int number() { return 7; }'}
    made = compiled(compiler(), source)
    assert made.is_relative_to(tmp_path)
    before = made.stat().st_mtime_ns
    assert compiled(compiler(), source) == made
    assert made.stat().st_mtime_ns == before
    assert compiled(compiler(), source | {"number.h": b""}) != made


def test_a_compiler_without_openmp_is_enough(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plain = tmp_path / "plain"
    plain.write_text(f'#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec {compiler()} "$@"\n')
    plain.chmod(0o755)
    source = {"made.cpp": b'#ifndef _OPENMP\nextern "C" int number() { return 7; }\n#endif'}
    assert ctypes.CDLL(str(compiled(str(plain), source))).number() == 7


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what a process has loaded")
def test_kernels_run_on_torchs_threads():
    # the threads of a second OpenMP would wait for cores that torch's keep busy; in a process of its own, for other
    # libraries bring theirs
    script = "from metalit.kernels import missing; print(missing()); print(open('/proc/self/maps').read())"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.startswith("None")
    loaded = {os.path.realpath(line.split()[-1]) for line in said.splitlines() if "libgomp" in line}
    assert len(loaded) <= 1


def test_without_a_compiler_the_reason_is_known(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    library.cache_clear()
    try:
        assert "C++ compiler" in missing()
    finally:
        monkeypatch.undo()
        library.cache_clear()
