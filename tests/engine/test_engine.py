"""Meta-gradients through every kind of layer: inside vmap = over it = loop = chunked = compiled, in float64.

The obvious vectorised form is silently wrong in torch 2.13 for batch, instance and layer norm with adapted affine
parameters; ``test_without_the_context_vmap_is_wrong`` holds that this is still so, and that these tests would notice.
"""

import math
import re
from functools import partial

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch._C._functorch import get_interpreter_stack
from torch.func import functional_call, grad, vmap
from torch.utils._pytree import tree_map

from metalit import FOMAML, MAML, Engine, Episode, Labelled, Outcome, PrototypicalNetwork
from metalit.engine import split_tasks, with_gradient
from metalit.networks import Classifier, Conv4
from metalit.objectives import Objective, QueryLoss

TASKS, WAYS, SIZE = 5, 3, 16


@pytest.fixture(autouse=True)
def forget_compiled_functions():
    """Each case compiles the same functions for another network, and torch gives up after eight."""
    yield
    torch._dynamo.reset()


def block(inputs, norm):
    return nn.Sequential(nn.Conv2d(inputs, 4, 3, padding=1), norm, nn.ReLU(), nn.MaxPool2d(2))


def images(*norms):
    """A small convolutional classifier with these norms between its blocks."""
    blocks = [block(1 if i == 0 else 4, norm) for i, norm in enumerate(norms)]
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(4 * (SIZE // 2 ** len(norms)) ** 2, WAYS))


class Rows(nn.Module):
    """Reads an image as a sequence of rows: embeds them, mixes them, and classifies their mean."""

    def __init__(self, mixer):
        super().__init__()
        self.embed, self.mixer, self.head = nn.Linear(SIZE, 8), mixer, nn.Linear(8, WAYS)

    def forward(self, x):
        return self.head(self.mixer(self.embed(x[:, 0])).mean(dim=1))


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x):
        return x + self.attention(x, x, x, need_weights=False)[0]


class ScaledDotProduct(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(8, 24)

    def forward(self, x):
        return F.scaled_dot_product_attention(*self.project(x).chunk(3, dim=-1))


class FunctionalNorm(nn.Module):
    """Calls the functional form, as many users' networks do."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))

    def forward(self, x):
        return F.layer_norm(x, (8,), self.weight, self.bias)


def transformer(dropout=0.0):
    return nn.TransformerEncoderLayer(8, 2, 16, dropout=dropout, batch_first=True)


def batch_norm(**settings):
    return nn.BatchNorm2d(4, **settings)


NETWORKS = {
    "conv4": lambda: Classifier(Conv4(channels=4, image_size=SIZE), ways=WAYS),
    "conv4_strided": lambda: Classifier(Conv4(channels=4, image_size=SIZE, downsample="stride"), ways=WAYS),
    "conv4_running": lambda: Classifier(Conv4(channels=4, image_size=SIZE, batch_norm="running"), ways=WAYS),
    "conv4_renorm": lambda: Classifier(Conv4(channels=4, image_size=SIZE, batch_norm="renorm"), ways=WAYS),
    "no_norm": lambda: images(nn.Identity(), nn.Identity()),
    "batch_norm": lambda: images(batch_norm(track_running_stats=False), batch_norm(track_running_stats=False)),
    "running_batch_norm": lambda: images(batch_norm(), batch_norm()),
    "instance_norm": lambda: images(nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4, affine=True)),
    "group_norm": lambda: images(nn.GroupNorm(2, 4), nn.GroupNorm(2, 4)),
    "layer_norm": lambda: Rows(nn.LayerNorm(8)),
    "functional_layer_norm": lambda: Rows(FunctionalNorm()),
    "rms_norm": lambda: Rows(nn.RMSNorm(8)),
    "attention": lambda: Rows(Attention()),
    "scaled_dot_product": lambda: Rows(ScaledDotProduct()),
    "transformer": lambda: Rows(transformer()),
    "dropout": lambda: nn.Sequential(images(batch_norm(track_running_stats=False)), nn.Dropout(0.3)),
    "channel_dropout": lambda: images(nn.Dropout2d(0.3), nn.Identity()),
}
WRONG_WITHOUT_CONTEXT = ["conv4", "batch_norm", "instance_norm", "layer_norm", "transformer"]


def problem(name):
    torch.manual_seed(0)
    network = NETWORKS[name]().double()
    for parameter in network.parameters():  # away from weight 1 and bias 0
        parameter.data += 0.1 * torch.randn_like(parameter)

    def examples(each):
        y = torch.arange(WAYS).repeat_interleave(each).expand(TASKS, -1)
        return Labelled(torch.rand(TASKS, WAYS * each, 1, SIZE, SIZE, dtype=torch.float64), y)

    return network, Episode(examples(2), examples(2), torch.arange(TASKS))


def meta_gradient(network, episode, engine, algorithm=MAML, objective=None, steps=3):
    learner = algorithm(network, inner_lr=0.4, inner_steps=steps, engine=engine)
    parameters, buffers = learner.meta()
    keys = torch.arange(TASKS) + 100
    gradient, value, outcome = engine.compiled_meta_gradient()(
        partial(learner.task, ways=WAYS),
        objective or QueryLoss(),
        tree_map(torch.Tensor.detach, parameters),
        buffers,
        keys,
        episode,
    )
    return torch.cat([g.flatten() for g in gradient.values()]), value, outcome


def relative(one, other):
    return ((one - other).norm() / other.norm()).item()


ENGINES = {
    "inside": Engine(differentiate="inside"),
    "over": Engine(differentiate="over"),
    "chunked": Engine(chunk_size=2),
    "chunked_over": Engine(chunk_size=2, differentiate="over"),
    "chunked_loop": Engine("loop", chunk_size=2),
    "compiled": Engine(compile=True, compile_backend="aot_eager", differentiate="over"),
    "compiled_inside": Engine(compile=True, compile_backend="aot_eager"),
}
COMPILED_INSIDE = ("layer_norm", "dropout")  # takes twice the tracing
COMPILED_BY_DEFAULT = "layer_norm"

# tracing takes most of the time: a norm with running statistics is compiled in the smaller network only
CASES = [
    pytest.param(
        name,
        engine,
        marks=[pytest.mark.slow] if ENGINES[engine].compile and name != COMPILED_BY_DEFAULT else [],
        id=f"{name}-{engine}",
    )
    for name in NETWORKS
    for engine in ENGINES
    if (engine != "compiled_inside" or name in COMPILED_INSIDE)
    and (name, engine) not in [("conv4_running", "compiled"), ("conv4_renorm", "compiled")]
]


@pytest.mark.parametrize(("name", "engine"), CASES)
@pytest.mark.sample(3)
def test_every_mapping_gives_the_loops_meta_gradient(name, engine):
    network, episode = problem(name)
    steps = 1 if ENGINES[engine].compile else 3  # tracing unrolled steps takes most of the time
    expected, value, outcome = meta_gradient(network, episode, Engine("loop"), steps=steps)
    gradient, other_value, other_outcome = meta_gradient(network, episode, ENGINES[engine], steps=steps)
    assert relative(gradient, expected) < 1e-10
    assert other_value.item() == pytest.approx(value.item(), rel=1e-12)
    for one, other in zip(other_outcome.buffers.values(), outcome.buffers.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


# what batch renormalisation detaches is no constant of a difference; test_networks has its gradient
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "conv4_renorm"])
def test_the_loop_agrees_with_finite_differences(name):
    """The reference itself, without any of torch.func's second derivatives: central differences of the loss."""
    network, episode = problem(name)
    learner = MAML(network, inner_lr=0.4, inner_steps=2)
    parameters, buffers = learner.meta()
    parameters = tree_map(torch.Tensor.detach, parameters)
    keys = torch.arange(TASKS) + 100
    task = partial(learner.task, ways=WAYS)
    gradient, _, _ = learner.engine.meta_gradient(task, QueryLoss(), parameters, buffers, keys, episode)
    direction = tree_map(torch.randn_like, parameters)
    h = 1e-6

    def loss(sign):
        moved = {key: value + sign * h * direction[key] for key, value in parameters.items()}
        return learner.engine.map(task, moved, buffers, keys, episode).loss.mean()

    slope = (loss(1) - loss(-1)) / (2 * h)
    expected = sum((gradient[key] * direction[key]).sum() for key in gradient)
    assert slope.item() == pytest.approx(expected.item(), rel=1e-4)


@pytest.mark.parametrize("name", WRONG_WITHOUT_CONTEXT)
def test_without_the_context_vmap_is_wrong(name):
    """If this fails, torch has been mended: then the context's norms can go."""
    network, episode = problem(name)
    parameters = {key: value.detach() for key, value in network.named_parameters()}

    def task(parameters, support, query):
        def loss(parameters, examples):
            return F.cross_entropy(functional_call(network, parameters, (examples.x,)), examples.y)

        adapted = parameters
        for _ in range(3):
            gradient = grad(loss)(adapted, support)
            adapted = {key: value - 0.4 * gradient[key] for key, value in adapted.items()}
        return loss(adapted, query)

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        obvious = grad(lambda p: vmap(task, in_dims=(None, 0, 0))(p, *episode[:2]).mean())(parameters)
    expected, _, _ = meta_gradient(network, episode, Engine("loop"))
    assert relative(torch.cat([g.flatten() for g in obvious.values()]), expected) > 1e-3


@pytest.mark.slow
def test_inductor_compiles_the_same_meta_gradient():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.LayerNorm(8), nn.Linear(8, 1)).double()

    def examples(n):
        return Labelled(*(torch.randn(TASKS, n, d, dtype=torch.float64) for d in (2, 1)))

    episode = Episode(examples(4), examples(6), torch.arange(TASKS))
    expected, _, _ = meta_gradient(network, episode, Engine("loop"), steps=1)
    compiled, _, _ = meta_gradient(network, episode, Engine(compile=True), steps=1)
    assert relative(compiled, expected) < 1e-10


def test_without_a_compiler_it_warns_and_goes_on(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    network, episode = problem("no_norm")
    with pytest.warns(UserWarning, match=r"C\+\+ compiler is missing"):
        gradient, _, _ = meta_gradient(network, episode, Engine(compile=True), steps=1)
    assert relative(gradient, meta_gradient(network, episode, Engine("loop"), steps=1)[0]) < 1e-10


def test_second_order_differs_from_first_order():
    network, episode = problem("conv4")
    second, _, _ = meta_gradient(network, episode, Engine())
    first, _, _ = meta_gradient(network, episode, Engine(), algorithm=FOMAML)
    assert relative(second, first) > 0.1


class Spread(Objective):
    """Mixes the tasks: their mean loss plus its standard deviation."""

    over_all_tasks = True

    def __call__(self, outcome: Outcome):
        return outcome.loss.mean() + outcome.loss.std()


@pytest.mark.parametrize("engine", ["chunked", "chunked_over", "chunked_loop", "inside", "over"])
def test_chunks_hold_for_objectives_that_mix_tasks(engine):
    network, episode = problem("conv4")
    expected, _, _ = meta_gradient(network, episode, Engine("loop"), objective=Spread())
    gradient, _, _ = meta_gradient(network, episode, ENGINES[engine], objective=Spread())
    plain, _, _ = meta_gradient(network, episode, Engine("loop"))
    assert relative(gradient, expected) < 1e-10
    assert relative(plain, expected) > 1e-2


@pytest.mark.parametrize("engine", ["chunked", "chunked_over"])
@pytest.mark.parametrize(("objective", "passes"), [(QueryLoss(), 1), (Spread(), 2)], ids=["mean", "mixed"])
def test_chunks_of_a_mean_over_tasks_run_once(engine, objective, passes):
    network, episode = problem("batch_norm")
    learner = MAML(network, inner_lr=0.4)
    parameters, buffers = learner.meta()
    runs = []

    def task(*arguments):
        runs.append(arguments)
        return learner.task(*arguments, ways=WAYS)

    ENGINES[engine].meta_gradient(task, objective, parameters, buffers, torch.arange(TASKS), episode)
    assert len(runs) == passes * math.ceil(TASKS / 2)


@pytest.mark.parametrize("differentiate", ["inside", "over"])
def test_a_task_alone_runs_without_vmap(differentiate):
    levels = []

    class Watched(nn.Module):
        def forward(self, x):
            levels.append(get_interpreter_stack())
            return x

    network, episode = problem("batch_norm")
    engine = Engine(chunk_size=1, differentiate=differentiate)
    meta_gradient(nn.Sequential(network, Watched()), episode, engine, steps=0)
    assert not any(levels)


@pytest.mark.parametrize("engine", ["inside", "over", "chunked", "chunked_loop"])
def test_ordinary_autograd_finds_the_same_gradient(engine):
    """What a training loop of one's own calls."""
    network, episode = problem("batch_norm")
    expected, value, _ = meta_gradient(network, episode, Engine("loop"), objective=Spread())
    learner = MAML(network, inner_lr=0.4, inner_steps=3)
    parameters, buffers = learner.meta()
    task, keys = partial(learner.task, ways=WAYS), torch.arange(TASKS) + 100
    loss = Spread()(ENGINES[engine].map(task, parameters, buffers, keys, episode))
    gradient = torch.autograd.grad(loss, list(parameters.values()))
    assert loss.item() == pytest.approx(value.item(), rel=1e-12)
    assert relative(torch.cat([g.flatten() for g in gradient]), expected) < 1e-10


def test_a_gradient_with_respect_to_data_is_found_too():
    network, episode = problem("layer_norm")
    learner = MAML(network, inner_lr=0.4, inner_steps=2)

    def gradient(engine):
        x = episode.support.x.clone().requires_grad_()
        parameters, buffers = learner.meta()
        task, keys = partial(learner.task, ways=WAYS), torch.arange(TASKS)
        outcome = engine.map(task, parameters, buffers, keys, episode._replace(support=Labelled(x, episode.support.y)))
        return torch.autograd.grad(outcome.loss.sum(), x)[0]

    assert relative(gradient(Engine()), gradient(Engine("loop"))) < 1e-10


class Block(nn.Linear):
    """A class that is not torch's, whatever it does."""


def hooked(layer):
    layer.register_forward_hook(lambda module, inputs, output: output)
    return layer


def with_own_forward(layer):
    layer.forward = layer.forward
    return layer


NOT_KNOWN = {
    "class": (lambda: Block(2, 1), r"Block \(network\.1\) is not on the list"),
    "hook": (lambda: hooked(nn.Linear(2, 1)), r"Linear \(network\.1\) has a hook"),
    "forward": (lambda: with_own_forward(nn.Linear(2, 1)), r"Linear \(network\.1\) has a hook or a replaced forward"),
    "parametrisation": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(2, 1)),
        r"ParametrizedLinear \(network\.1\) is not on the list",
    ),
}


@pytest.mark.parametrize("what", NOT_KNOWN)
def test_what_is_not_known_is_differentiated_inside_and_the_log_says_so_once(what, caplog):
    make, reason = NOT_KNOWN[what]
    learner = MAML(nn.Sequential(nn.Linear(1, 2), make()))
    with caplog.at_level("INFO"):
        settled = [learner.engine.settled(learner) for _ in range(2)]
        assert not caplog.records
        for _ in range(2):
            learner.engine.announce(learner)
    assert [engine.differentiate for engine in settled] == ["inside", "inside"]
    (line,) = [record.message for record in caplog.records if "meta-gradients" in record.message]
    assert re.search(f"inside vmap.*: {reason}", line)


def test_what_is_known_is_differentiated_over(caplog):
    learner = MAML(nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)))
    with caplog.at_level("INFO"):
        assert learner.engine.settled(learner).differentiate == "over"
        learner.engine.announce(learner)
    assert "over vmap" in caplog.text
    assert learner.settled_engine() is learner.settled_engine()
    hooked(learner.network[0])
    assert learner.settled_engine().differentiate == "inside"


@pytest.mark.parametrize("engine", [Engine(), Engine(mapping="loop")], ids=["vmap", "loop"])
def test_the_log_says_where_meta_gradients_are_taken_only_when_one_is_taken(engine, caplog):
    learner = MAML(nn.Linear(1, 2), inner_lr=0.1, engine=engine)
    support = Labelled(torch.rand(1, 4, 1), torch.tensor([[0, 0, 1, 1]]))
    episode = Episode(support, support, torch.arange(1))
    with caplog.at_level("INFO"):
        learner.adapt(Labelled(support.x[0], support.y[0]))(support.x[0])
        learner.evaluate(episode)
        assert not caplog.records
        learner.meta_loss(episode).backward()
    assert len([record for record in caplog.records if "meta-gradients" in record.message]) == engine.chooses


def test_a_learner_or_an_objective_of_ones_own_is_differentiated_inside():
    class Own(MAML):
        pass

    network = nn.Linear(1, 1)
    assert Own(network).settled_engine().differentiate == "inside"
    assert MAML(network, objective=Spread()).settled_engine().differentiate == "inside"


@pytest.mark.parametrize("how", ["inside", "over"])
def test_a_setting_decides_where_it_is_differentiated(how):
    learner = MAML(Block(1, 1), engine=Engine(differentiate=how))
    assert learner.settled_engine().differentiate == how


def test_recurrent_networks_run_in_the_loop():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = nn.LSTM(SIZE, 4, batch_first=True), nn.Linear(4, WAYS)

        def forward(self, x):
            return self.head(self.lstm(x[:, 0])[0][:, -1])

    torch.manual_seed(0)
    _, episode = problem("conv4")
    gradient, _, _ = meta_gradient(Recurrent().double(), episode, Engine("loop"), steps=1)
    assert gradient.isfinite().all()
    assert gradient.norm() > 0


def test_chunk_size_must_be_positive():
    with pytest.raises(ValueError, match=r"chunk_size is 0"):
        Engine(chunk_size=0)


def test_split_tasks_keeps_every_task_once():
    tree = {"a": torch.arange(7), "b": torch.arange(14).reshape(7, 2)}
    parts = split_tasks(tree, 3)
    assert [len(part["a"]) for part in parts] == [3, 3, 1]
    assert torch.equal(torch.cat([part["b"] for part in parts]), tree["b"])


def test_finished_gradient_is_scaled_and_accumulated_like_any_other():
    parameters = {"w": torch.zeros(2, requires_grad=True), "b": torch.zeros(1, requires_grad=True)}
    gradient = {"w": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0])}
    loss = with_gradient(torch.tensor(5.0), gradient, parameters)
    assert loss.item() == 5.0
    (loss * 4).backward()
    with_gradient(torch.tensor(5.0), gradient, parameters).backward()
    assert parameters["w"].grad.tolist() == [5.0, 10.0]
    assert parameters["b"].grad.tolist() == [15.0]


def test_finished_gradient_takes_back_its_own_scale():
    parameters = {"w": torch.zeros(2, requires_grad=True)}
    gradient, own = {"w": torch.tensor([2.0**10, torch.inf])}, torch.tensor(2.0**10)
    (with_gradient(torch.tensor(5.0), gradient, parameters, own) * 2.0**16).backward()
    assert parameters["w"].grad.tolist() == [2.0**16, torch.inf]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_finished_gradient_of_a_value_that_is_not_finite_is_not_finite(value):
    parameters = {"w": torch.zeros(2, requires_grad=True)}
    with_gradient(torch.tensor(value), {"w": torch.ones(2)}, parameters).backward()
    assert parameters["w"].grad.isnan().all()


def test_running_statistics_become_what_batch_norm_makes_them():
    """One task of a metric learner is one ordinary batch: nn.BatchNorm2d in training mode is the reference."""
    torch.manual_seed(0)
    reference = Conv4(channels=4, image_size=SIZE, batch_norm="running").double()
    learner = PrototypicalNetwork(Conv4(channels=4, image_size=SIZE, batch_norm="running").double())
    learner.network.load_state_dict(reference.state_dict())
    _, episode = problem("conv4")
    one = tree_map(lambda leaf: leaf[:1], episode)
    learner.trainer = L.Trainer(logger=False, accelerator="cpu", log_every_n_steps=1000)
    learner.training_step(one, 0).backward()
    learner.on_before_optimizer_step(torch.optim.SGD(learner.parameters()))
    reference(torch.cat([one.support.x[0], one.query.x[0]]))
    for name, buffer in reference.named_buffers():
        torch.testing.assert_close(learner.network.get_buffer(name), buffer, rtol=1e-10, atol=1e-12)
