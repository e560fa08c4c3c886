"""Meta-gradients through every layer of ``torch.nn`` and its options: the same however they are computed, or refused.

In float64, against one task after the other: MAML with a large rate, whose second derivatives the silent errors of
reverse mode over ``vmap`` are in. The list of what is refused stands in docs/guide/gradients.md.
"""

import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import layers
from metalit import MAML, Engine, Episode, Labelled
from metalit.engine.certified import TESTED, is_tested
from metalit.engine.explanations import CannotCompileError, CannotDifferentiateError, CannotVectoriseError
from metalit.objectives import QueryLoss

PAGE = Path(__file__).parents[1] / "docs" / "guide" / "gradients.md"
ROWS = layers.rows()
TASKS = 3
WAYS = {
    "inside": {"engine": Engine(differentiate="inside")},
    "chunked": {"engine": Engine(chunk_size=2)},
    "checkpointed": {"engine": Engine(), "checkpoint_steps": True},
}
COMPILED = Engine(compile=True, compile_backend="aot_eager")
# compiled in the default suite, one of each kind; the others are slow
COMPILED_BY_DEFAULT = {"Embedding padding", "torch.rand_like"}
# modules of torch.nn that cannot stand in a network as a layer
EXCLUDED = {
    "Module": "abstract",
    "Container": "abstract",
    "Buffer": "no module",
    "RNNBase": "abstract",
    "RNNCellBase": "abstract",
    "ModuleList": "holds modules", "ModuleDict": "holds modules",
    "ParameterList": "holds parameters", "ParameterDict": "holds parameters",
    "DataParallel": "copies a network to several devices",
    "AdaptiveLogSoftmaxWithLoss": "a loss",
    "SyncBatchNorm": "needs several processes and GPUs",
    "LinearCrossEntropyLoss": "a loss",
}  # fmt: skip

# torch has no rule for some layers under vmap and takes one task at a time
pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype:UserWarning"),
]


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    yield
    torch._dynamo.reset()


def meta_gradient(row, engine, inner_steps=2, **settings):
    """The meta-gradient of MAML on a network around a layer, and the outcome."""
    torch.manual_seed(0)
    network = layers.Host(row).double()
    for parameter in network.parameters():  # away from weight 1 and bias 0
        parameter.data += 0.1 * torch.randn_like(parameter)

    def examples():
        x = torch.randn(TASKS, 4, layers.FEATURES, dtype=torch.float64)
        return Labelled(x, torch.tensor([0, 1, 1, 0]).expand(TASKS, -1))

    learner = MAML(network, inner_lr=0.4, inner_steps=inner_steps, engine=engine, **settings)
    parameters, buffers = learner.meta()
    gradient, _, outcome = engine.compiled_meta_gradient()(
        partial(learner.task, ways=2),
        QueryLoss(),
        {name: parameter.detach() for name, parameter in parameters.items()},
        buffers,
        torch.arange(TASKS) + 100,
        Episode(examples(), examples(), torch.arange(TASKS)),
    )
    return gradient, outcome


def assert_same(found, expected):
    (gradient, outcome), (reference, reference_outcome) = found, expected
    scale = torch.cat([value.flatten() for value in reference.values()]).norm()
    assert scale > 0
    for name, value in reference.items():
        assert (gradient[name] - value).norm() <= 1e-10 * scale, name
    for name, value in reference_outcome.buffers.items():
        torch.testing.assert_close(outcome.buffers[name], value, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.refused])
@pytest.mark.sample(5)
def test_every_way_gives_the_loops_meta_gradient(name):
    row = ROWS[name]
    expected = meta_gradient(row, Engine("loop"))
    for settings in WAYS.values():
        if row.loop_only:
            with pytest.raises(CannotVectoriseError, match="expected loop"):
                meta_gradient(row, **settings)
        else:
            assert_same(meta_gradient(row, **settings), expected)
    if certified(row):
        assert_same(meta_gradient(row, Engine(differentiate="over")), expected)


def certified(row):
    """Whether the layer, without the network around it, may be differentiated over vmap."""
    return all(is_tested(module) for module in row.make().modules())


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.refused])
@pytest.mark.parametrize("mapping", ["vmap", "loop"])
def test_what_no_mapping_can_compute_is_refused_by_name(name, mapping):
    with pytest.raises(ValueError, match=re.escape(ROWS[name].refused)):
        meta_gradient(ROWS[name], Engine(mapping))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in COMPILED_BY_DEFAULT else [pytest.mark.slow])
        for name, row in ROWS.items()
        if not (row.refused or row.loop_only)
    ],
)
def test_compiled_gives_the_same_or_is_refused(name):
    row = ROWS[name]
    if row.compiles:  # one step, in which the silent errors are, too: tracing takes seconds for each
        found, expected = (meta_gradient(row, engine, inner_steps=1) for engine in (COMPILED, Engine("loop")))
        assert_same(found, expected)
    else:
        with pytest.raises(CannotCompileError, match="torch cannot compile"):
            meta_gradient(row, COMPILED, inner_steps=1)


@pytest.mark.parametrize("mapping", ["vmap", "loop"])
def test_a_function_with_one_derivative_only_is_refused_by_name(mapping):
    class Once(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(x):
            return 2 * x

        @staticmethod
        def setup_context(ctx, inputs, output):
            pass

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, g):
            return 2 * g

    class Network(nn.Module):
        def forward(self, x):
            return Once.apply(x).exp()

    with pytest.raises(CannotDifferentiateError, match="derivative torch does not provide"):
        meta_gradient(layers.Layer(Network), Engine(mapping))
    assert meta_gradient(layers.Layer(Network), Engine(mapping), first_order=True)  # which needs no other


def test_every_layer_of_torch_has_a_row():
    losses = {name for name in layers.layer_classes() if issubclass(getattr(nn, name), nn.modules.loss._Loss)}
    lazy = {name for name in layers.layer_classes() if name.startswith("Lazy")}
    missing = layers.layer_classes() - {name.split()[0] for name in ROWS} - losses - lazy - set(EXCLUDED)
    assert not missing


def test_every_class_that_is_called_tested_is_in_a_row():
    covered = {type(module) for row in ROWS.values() for module in row.make().modules()}
    holders = {nn.ModuleList, nn.ModuleDict, nn.ParameterList, nn.ParameterDict}
    assert set(TESTED) - covered - holders == set()


def test_page_names_all_that_is_refused():
    page = PAGE.read_text()
    table = page[page.index("## What is refused") :]
    table = table[: table.index("\n## ", 1)]
    refused = [name for name, row in ROWS.items() if row.refused or row.loop_only]
    assert [name for name in refused if f"`{name.split()[0]}" not in table] == []


class Counter(nn.Module):
    """Writes into its buffer, in one of the ways there are."""

    def __init__(self, write):
        super().__init__()
        self.write = write
        self.register_buffer("steps", torch.zeros((), dtype=torch.float64))

    def forward(self, x):
        self.write(self, x)
        return x


def assign(module, x):
    module.steps = module.steps + 1


def increase(module, x):
    module.steps += 1


WRITES = {
    "+=": increase,
    "=": assign,
    "add_": lambda module, x: module.steps.add_(1),
    "copy_": lambda module, x: module.steps.copy_(x.mean()),
    "mul_": lambda module, x: module.steps.mul_(0.9),
    "lerp_": lambda module, x: module.steps.lerp_(x.mean().detach().to(module.steps), 0.1),
    "data": lambda module, x: module.steps.data.add_(1),
    "detached": lambda module, x: module.steps.detach().add_(1),
    "item": lambda module, x: module.steps.__setitem__((), 1),
}


@pytest.mark.parametrize("mapping", ["vmap", "loop"])
@pytest.mark.parametrize("way", WRITES)
def test_a_buffer_that_the_network_writes_itself_is_refused_by_name(way, mapping):
    with pytest.raises(ValueError, match=r"writes into its buffer (network\.layer\.)?steps"):
        meta_gradient(layers.Layer(lambda: Counter(WRITES[way])), Engine(mapping))


VALUE_DEPENDENT = {
    "python": lambda x: 2 * x if x.mean() > 0 else x,
    "item": lambda x: x * x.mean().item(),
    "masked": lambda x: x[x > 0].sum() + x,
}


@pytest.mark.parametrize("what", VALUE_DEPENDENT)
def test_what_vmap_cannot_take_names_the_loop_and_keeps_torchs_error(what):
    class Dependent(nn.Module):
        def forward(self, x):
            return VALUE_DEPENDENT[what](x)

    row = layers.Layer(Dependent)
    with pytest.raises(CannotVectoriseError, match=r"engine\.mapping is vmap, expected loop") as error:
        meta_gradient(row, Engine())
    assert isinstance(error.value.__cause__, RuntimeError)
    meta_gradient(row, Engine("loop"))


def test_a_mistake_of_the_network_is_not_blamed_on_vmap():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        meta_gradient(layers.Layer(Mistaken), Engine())


class Mistaken(nn.Module):
    """Right for the three examples that it is made with, and for no others."""

    def forward(self, x):
        return x if len(x) == 3 else x @ x.new_ones(7, 4)
