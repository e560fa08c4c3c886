"""JAX: ``jit(value_and_grad(mean(vmap(task))))`` over the weights of the same torch network."""

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from benchmarks.speed.problems import Problem
from benchmarks.speed.race import LeftOutError, Setting, Step
from torch import nn


def maml(problem: Problem, order: int, steps: int) -> Callable[..., Step]:
    """Return what makes a compiled step of MAML."""

    def make(setting: Setting) -> Step:
        jax = importlib.import_module("jax")
        if setting.device.type not in jax.default_backend().replace("gpu", "cuda"):
            raise LeftOutError(f"this JAX runs on {jax.default_backend()}")
        jax.config.update("jax_enable_x64", setting.dtype == torch.float64)
        network, tasks = problem.make_network(setting), problem.make_episode(setting)
        parameters = {name: array(jax, value) for name, value in network.named_parameters()}
        data = [array(jax, leaf) for part in (tasks.support, tasks.query) for leaf in (part.x, part.y)]
        meta = meta_gradient(jax, forward(jax, network), problem, order, setting.inner(steps))

        def step() -> Any:
            value, gradient = meta(parameters, *data)
            jax.block_until_ready(gradient)
            return value

        return step

    return make


def array(jax: Any, tensor: torch.Tensor) -> Any:
    """Return a tensor as an array of JAX."""
    numbers = tensor.detach().cpu()
    if numbers.dtype == torch.bfloat16:
        return jax.numpy.asarray(numbers.float().numpy(), dtype=jax.numpy.bfloat16)
    return jax.numpy.asarray(np.asarray(numbers))


def meta_gradient(jax: Any, run: Callable[..., Any], problem: Problem, order: int, steps: int) -> Callable[..., Any]:
    """Return meta-loss and meta-gradient, compiled."""
    jnp = jax.numpy

    def loss(parameters: Any, x: Any, y: Any) -> Any:
        outputs = run(parameters, x)
        if not problem.ways:
            return jnp.mean((outputs - y) ** 2)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(outputs), y[:, None], 1))

    def task(parameters: Any, *data: Any) -> Any:
        adapted = parameters
        for _ in range(steps):
            slope = jax.grad(loss)(adapted, *data[:2])
            slope = jax.lax.stop_gradient(slope) if order == 1 else slope
            adapted = jax.tree_util.tree_map(lambda value, own: value - problem.rate * own, adapted, slope)
        return loss(adapted, *data[2:])

    def mean(parameters: Any, *data: Any) -> Any:
        return jax.vmap(task, (None, 0, 0, 0, 0))(parameters, *data).mean()

    return jax.jit(jax.value_and_grad(mean))  # type: ignore[no-any-return]


def forward(jax: Any, network: nn.Module) -> Callable[..., Any]:
    """Return a network of metalit as a function of JAX: an MLP, or Conv4 with a linear head.

    Raises:
        LeftOutError: it is another network.
    """
    kind = type(network).__name__
    if kind == "MLP":
        return lambda parameters, x: mlp(jax, parameters, x)
    encoder = getattr(network, "body", None)
    if type(encoder).__name__ != "Conv4":
        raise LeftOutError(f"there is no {type(encoder).__name__} in JAX here")
    return lambda parameters, x: conv4(jax, parameters, x, pool=encoder.pool)  # type: ignore[union-attr]


def pairs(parameters: dict[str, Any]) -> list[tuple[Any, Any]]:
    """Return (weight, bias) of each layer, in their order."""
    return [(value, parameters[f"{name[:-6]}bias"]) for name, value in parameters.items() if name.endswith("weight")]


def in_order(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters by the numbers in their names, since JAX sorts dictionaries by words."""
    return dict(sorted(parameters.items()))


def mlp(jax: Any, parameters: dict[str, Any], x: Any) -> Any:
    """Apply an MLP."""
    layers = pairs(in_order(parameters))
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        x = jax.nn.relu(x) if number + 1 < len(layers) else x
    return x


def conv4(jax: Any, parameters: dict[str, Any], x: Any, pool: bool) -> Any:
    """Apply Conv4 and its linear head."""
    *blocks, (weight, bias) = pairs(in_order(parameters))
    for (kernel, shift), (scale, offset) in zip(blocks[::2], blocks[1::2], strict=True):
        x = convolution(jax, x, kernel, 1 if pool else 2) + shift[:, None, None]
        mean, variance = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
        x = (x - mean) / jax.numpy.sqrt(variance + 1e-5) * scale[:, None, None] + offset[:, None, None]
        x = jax.nn.relu(x)
        if pool:
            x = jax.lax.reduce_window(x, -jax.numpy.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    features = x.reshape(len(x), -1) if pool else x.mean((2, 3))
    return features @ weight.T + bias


def convolution(jax: Any, x: Any, kernel: Any, stride: int) -> Any:
    """Convolve as torch does."""
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=("NCHW", "OIHW", "NCHW")
    )
