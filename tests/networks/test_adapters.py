"""LoRA, bottlenecks and chosen parameters: closed forms, what is frozen, gradients, and what is refused."""

import pickle
from copy import deepcopy

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import ANIL, FOMAML, MAML, MetaSGD, PrototypicalNetwork, Reptile
from metalit.data import Sinusoid
from metalit.engine.certified import uncertified
from metalit.episode import MarkedTokens, Tokens
from metalit.errors import SettingError, UserError
from metalit.networks import MLP, Backbone, Bottleneck, Classifier, Conv4, LoRA, SoftPrompt, TextTransformer, Tuned
from metalit.networks.adapters.lora import LoRALinear
from metalit.networks.adapters.soft_prompt import with_places


def mlp(hidden=(6,), outputs=3):
    torch.manual_seed(0)
    return MLP(4, hidden, outputs).double()


def trained(network):
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def randomised(network, std=0.3):
    """A network whose trained parameters are no longer at their start."""
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.add_(std * torch.randn_like(parameter))
    return network


def test_a_layer_is_its_formula():
    linear = nn.Linear(5, 3, dtype=torch.float64)
    layer, x = randomised(LoRALinear(linear, rank=2, alpha=6)), torch.randn(4, 5, dtype=torch.float64)
    expected = x @ (linear.weight + 3 * layer.lora_B @ layer.lora_A).T + linear.bias
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    assert layer.weight is linear.weight


def test_it_begins_as_the_network_itself():
    plain, x = mlp(), torch.randn(5, 4, dtype=torch.float64)
    expected = plain(x)
    assert torch.equal(LoRA(deepcopy(plain), ["*"], rank=2)(x), expected)
    assert not torch.allclose(LoRA(deepcopy(plain), ["*"], rank=2, init=0.1)(x), expected)
    torch.testing.assert_close(Bottleneck(deepcopy(plain), ["*"])(x), expected, rtol=0.01, atol=0.01)


def test_gradients_are_those_of_full_fine_tuning_projected():
    """With G the gradient of W at W + s B A: that of B is s G A', that of A is s B' G."""
    network = randomised(LoRA(mlp(()), ["*"], rank=2, alpha=6))
    x, y = torch.randn(8, 4, dtype=torch.float64), torch.randint(3, (8,))
    layer = network.network.layers[0]
    full = (layer.weight + 3 * layer.lora_B @ layer.lora_A).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(F.cross_entropy(F.linear(x, full, layer.bias), y), [full])
    found = torch.autograd.grad(F.cross_entropy(network(x), y), [layer.lora_A, layer.lora_B])
    torch.testing.assert_close(found[0], 3 * layer.lora_B.T @ gradient, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(found[1], 3 * gradient @ layer.lora_A.T, rtol=1e-12, atol=1e-14)


def test_on_a_linear_model_the_best_update_is_the_truncated_difference():
    """With white inputs the least squares solution of rank r is the SVD of W* - W, cut off (Eckart and Young 1936)."""
    torch.manual_seed(1)
    x = torch.linalg.qr(torch.randn(20, 4, dtype=torch.float64))[0]
    wanted = torch.randn(3, 4, dtype=torch.float64)
    network = LoRA(mlp((), 3), ["*"], rank=2, init=0.1)
    layer = network.network.layers[0]
    y = x @ wanted.T + layer.bias.detach()
    optimizer = torch.optim.LBFGS([layer.lora_A, layer.lora_B], max_iter=500, tolerance_change=1e-14,
                                  tolerance_grad=1e-12, line_search_fn="strong_wolfe")  # fmt: skip

    def loss():
        optimizer.zero_grad()
        value = (network(x) - y).square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    u, s, v = torch.linalg.svd(wanted - layer.weight, full_matrices=False)
    assert loss().item() == pytest.approx(s[2].item() ** 2, rel=1e-8)
    update = layer.scale * layer.lora_B @ layer.lora_A
    torch.testing.assert_close(update, (u[:, :2] * s[:2]) @ v[:2], rtol=1e-4, atol=1e-5)


def test_merged_computes_the_same_without_adapters():
    network, x = randomised(LoRA(mlp((6, 5)), ["layers.0", "layers.4"], rank=2)), torch.randn(9, 4).double()
    merged = network.merged()
    assert not any(isinstance(module, LoRALinear) for module in merged.modules())
    assert merged.state_dict().keys() == mlp((6, 5)).state_dict().keys()
    torch.testing.assert_close(merged(x), network(x), rtol=1e-12, atol=1e-12)
    single = network.float()
    torch.testing.assert_close(single.merged()(x.float()), single(x.float()), rtol=1e-6, atol=1e-6)
    assert isinstance(network.network.layers[0], LoRALinear)  # the original is as it was


def test_a_layer_in_two_places_stays_one():
    linear = nn.Linear(4, 4)
    network = randomised(LoRA(nn.Sequential(linear, nn.Tanh(), linear), ["0"], rank=1))
    assert len(trained(network)) == 2
    first, _, second = network.network
    assert isinstance(first, LoRALinear)
    assert isinstance(second, nn.Linear)  # only the place that was named
    network = randomised(LoRA(nn.Sequential(nn.Identity(), linear, nn.Tanh(), linear), ["*"], rank=1))
    assert network.network[1] is network.network[3]
    x = torch.randn(2, 4)
    merged = network.merged()
    assert merged[1] is merged[3]
    torch.testing.assert_close(merged(x), network(x))


def test_what_is_trained_and_how_it_is_called():
    network = LoRA(mlp(), ["layers.0"], rank=2, trained=["layers.2.bias"])
    assert trained(network) == {
        "network.layers.0.lora_A", "network.layers.0.lora_B", "network.layers.2.bias"
    }  # fmt: skip
    assert {name.removeprefix("network.") for name in network.state_dict()} == {
        *mlp().state_dict(), "layers.0.lora_A", "layers.0.lora_B"
    }  # fmt: skip
    assert network.setting()["lora_parameters"].startswith("23 of 71 ")
    assert trained(Tuned(mlp(), ["*.bias"])) == {"network.layers.0.bias", "network.layers.2.bias"}
    assert len(trained(Bottleneck(mlp(), ["layers.2"]))) == 4


def test_it_says_what_the_network_says():
    encoder = TextTransformer(50, width=8, layers=1, heads=2)
    network = LoRA(encoder, ["*.queries", "*.values"], rank=2)
    assert (network.features, network.vocabulary, network.tokenizer_digest) == (8, 50, None)
    assert LoRA(nn.Sequential(nn.Linear(2, 2)), ["*"]).features is None
    assert Classifier(network, ways=2).head.in_features == 8


def test_frozen_parts_stay_in_evaluation_mode():
    block = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 4))
    network = LoRA(block, ["0"], rank=2, dropout=0.5, trained=["1.*"]).train()
    on = {name for name, module in network.named_modules() if module.training}
    assert on == {"", "network.0", "network.0.lora_dropout"}  # neither the batch norm, though its scale is trained
    assert not any(module.training for module in network.eval().modules())
    network.train_all()
    assert all(module.training for module in network.modules())


def test_an_adapter_decides_what_rests_within_it():
    network = Backbone(nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), features=4, trained="all", blocks=["0"])
    learner = PrototypicalNetwork(LoRA(network, ["encoder.0"], rank=1, dropout=0.1))
    assert learner.train().network.network.encoder[1].training is False
    learner.trainer = L.Trainer(logger=False, accelerator="cpu", enable_checkpointing=False)
    learner.on_fit_start()
    assert learner.network.network.encoder[1].training
    learner.on_train_start()
    assert learner.network.network.encoder[1].training is False
    assert learner.network.network.encoder[0].lora_dropout.training
    assert {"lora", "backbone"} <= learner.setting().keys()


def texts(n):
    lengths = torch.randint(1, 7, (3, n, 1))
    mask = torch.arange(8) < lengths
    return Tokens(torch.randint(1, 50, (3, n, 8)) * mask, mask)


def episode(kind):
    torch.manual_seed(2)
    y = torch.tensor([[0, 1, 0, 1]] * 3)
    if kind == "text":
        return Episode(Labelled(texts(4), y), Labelled(texts(4), y), torch.arange(3))
    part = Labelled(torch.randn(3, 4, 4, dtype=torch.float64), y)
    return Episode(part, tree_map(lambda leaf: leaf.flip(0), part), torch.arange(3))


BODIES = {
    "MLP": ("vectors", lambda: mlp((6,), 5), "*"),
    # randomised, since the last matrix of each branch starts at zero and lets no gradient through
    "TextTransformer": ("text", lambda: randomised(TextTransformer(50, 8, 2, heads=2, feedforward=8)), "*.values"),
}
ADAPTERS = {
    "LoRA": (lambda body, layers: LoRA(body, [layers], rank=2, init=0.3, dropout=0.2), "*lora_*"),
    "Bottleneck": (lambda body, layers: Bottleneck(body, [layers], width=3, init=0.5), "*adapter_*"),
    "Tuned": (lambda body, layers: Tuned(body, [f"{layers}.weight" if layers != "*" else "*.weight"]), "*"),
}
METHODS = {
    "MAML": lambda network, own, engine: MAML(network, 0.2, inner_steps=2, adapted=[own, "head.*"], engine=engine),
    "FOMAML": lambda network, own, engine: FOMAML(network, 0.2, inner_steps=2, adapted=[own, "head.*"], engine=engine),
    "ANIL": lambda network, own, engine: ANIL(network, 0.2, head=["head.*"], inner_steps=2, engine=engine),
    "Reptile": lambda network, own, engine: Reptile(
        network, 0.02, inner_steps=2, adapted=["*"], inner_optimizer="adam", engine=engine
    ),
    "MetaSGD": lambda network, own, engine: MetaSGD(
        network, 0.2, inner_steps=2, adapted=[own, "head.*"], engine=engine
    ),
}  # fmt: skip


def meta_gradient(method, adapter, body, engine):
    kind, make, layers = BODIES[body]
    torch.manual_seed(3)
    adapt, own = ADAPTERS[adapter]
    learner = METHODS[method](Classifier(adapt(make(), layers), ways=2).double(), own, engine)
    learner.meta_loss(episode(kind)).backward()
    return learner, {name: value.grad for name, value in learner.named_parameters() if value.requires_grad}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    ("method", "adapter"), [*((method, "LoRA") for method in METHODS), ("MAML", "Bottleneck"), ("MAML", "Tuned")]
)
def test_meta_gradient_is_that_of_a_loop(method, adapter, body):
    _, expected = meta_gradient(method, adapter, body, Engine(mapping="loop"))
    for engine in (Engine(), Engine(differentiate="inside")):
        learner, found = meta_gradient(method, adapter, body, engine)
        assert uncertified(learner) is None  # so the first is taken over vmap
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-13, msg=name)
        assert all(value.abs().max() > 0 for value in found.values())


def first_inner_step(learner, data):
    part = Labelled(*(leaf[0] for leaf in data.support))
    before, after = learner.trajectory(learner.meta()[0] | learner.meta()[1], part, steps=1)
    return {name: (after[name] - before[name]).abs().max().item() for name in before}


def test_a_moves_in_the_inner_loop_from_the_first_meta_step_on():
    torch.manual_seed(0)
    learner = MAML(Classifier(LoRA(mlp((6,), 5), ["*"], rank=2), ways=2).double(), 0.1, adapted=["*lora_*", "head.*"])
    data = episode("vectors")
    moved = first_inner_step(learner, data)
    assert {value for name, value in moved.items() if "lora_A" in name} == {0.0}
    assert all(value > 0 for name, value in moved.items() if "lora_A" not in name)
    optimizer = torch.optim.SGD(learner.parameters(), 0.1)
    learner.meta_loss(data).backward()
    optimizer.step()
    assert all(value > 0 for value in first_inner_step(learner, data).values())


def test_with_init_a_moves_at_once_and_b_can_adapt_alone():
    torch.manual_seed(0)
    network = Classifier(LoRA(mlp((6,), 5), ["*"], rank=2, init=0.1), ways=2).double()
    assert all(value > 0 for value in first_inner_step(MAML(network, 0.1), episode("vectors")).values())
    alone = MAML(network, 0.1, adapted=["*lora_B"])
    assert set(first_inner_step(alone, episode("vectors"))) == {
        "body.network.layers.0.lora_B", "body.network.layers.2.lora_B"
    }  # fmt: skip


def fitted(folder, steps, checkpoint=None):
    torch.manual_seed(0)
    body = MLP(1, (8, 8), 1)
    network = LoRA(body, ["layers.2", "layers.4"], rank=2, dropout=0.2)
    learner = MAML(network, 0.1, adapted=["*lora_*"])
    data = Sinusoid(shots=3, queries=3, tasks_per_batch=2, episodes_per_epoch=4, val_episodes=1)
    trainer = L.Trainer(max_steps=steps, logger=False, accelerator="cpu", default_root_dir=folder,
                        enable_progress_bar=False, enable_model_summary=False, inference_mode=False,
                        use_distributed_sampler=False, limit_val_batches=0, enable_checkpointing=False)  # fmt: skip
    before = deepcopy(network.state_dict())
    trainer.fit(learner, data, ckpt_path=checkpoint)
    trainer.save_checkpoint(folder / f"{steps}.ckpt")
    return before, network


def test_fit_leaves_frozen_weights_bit_identical_and_resumes(tmp_path):
    before, network = fitted(tmp_path, 4)
    after = network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed == {f"network.layers.{i}.lora_{part}" for i in (2, 4) for part in "AB"}
    _, half = fitted(tmp_path, 2)
    _, resumed = fitted(tmp_path, 4, tmp_path / "2.ckpt")
    assert all(torch.equal(value, after[name]) for name, value in resumed.state_dict().items())
    assert not torch.equal(half.network.layers[2].lora_B, resumed.network.layers[2].lora_B)


@pytest.mark.parametrize(
    ("network", "layers", "says"),
    [
        (lambda: mlp(), ["*.query"], "'*.query' matches nothing. There are: layers.*"),
        (lambda: Conv4(4), ["*"], "of class"),
        (lambda: nn.MultiheadAttention(4, 1), ["out_proj"], "MultiheadAttention does not call it"),
        (lambda: nn.TransformerEncoderLayer(4, 1), ["linear1"], "TransformerEncoderLayer does not call it"),
        (lambda: mlp(), ["layers.1"], "class ReLU"),
        (lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))), ["0"], "ParametrizedLinear"),
    ],
)
def test_layers_that_cannot_be_replaced_are_named(network, layers, says):
    with pytest.raises(SettingError, match="layers") as error:
        LoRA(network(), layers)
    assert says in str(error.value)


def test_a_layer_with_a_hook_is_not_replaced():
    network = nn.Sequential(nn.Linear(2, 2))
    network[0].register_forward_hook(lambda module, inputs, output: 2 * output)
    with pytest.raises(SettingError, match="There are: none"):
        LoRA(network, ["0"])


class Packed(nn.Parameter):
    """As a library for quantisation keeps packed weights."""


def test_quantised_weights_are_refused():
    whole = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    whole[1].weight = nn.Parameter(torch.zeros(4, 4, dtype=torch.int8), requires_grad=False)
    with pytest.raises(SettingError, match=r"1\.weight is a Parameter of int8"):
        LoRA(whole, ["0"])
    packed = nn.Sequential(nn.Linear(4, 4))
    packed[0].weight = Packed(torch.zeros(4, 4))
    with pytest.raises(SettingError, match=r"0\.weight is a Packed"):
        Tuned(packed, ["*.bias"])
    foreign = type("Linear4bit", (nn.Linear,), {"__module__": "bitsandbytes.nn.modules"})
    with pytest.raises(SettingError, match="bitsandbytes's Linear4bit"):
        Bottleneck(nn.Sequential(foreign(4, 4)), ["0"])


@pytest.mark.parametrize(
    ("name", "value"), [("rank", 0), ("alpha", 0.0), ("dropout", 1.0), ("init", -1.0)]
)  # fmt: skip
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(SettingError, match=name):
        LoRA(mlp(), ["*"], **{name: value})


def test_a_misspelt_parameter_is_refused():
    with pytest.raises(UserError, match="matches none"):
        Tuned(mlp(), ["*.bais"])
    with pytest.raises(SettingError, match="width"):
        Bottleneck(mlp(), ["*"], width=0)


def text_network(**settings):
    torch.manual_seed(1)
    return randomised(TextTransformer(50, 8, 2, heads=2, feedforward=8, **settings)).double()


def one(x):
    return tree_map(lambda leaf: leaf[0], x)


def test_a_prompt_is_more_words_behind_the_first():
    plain, network = text_network(pool="last"), SoftPrompt(text_network(pool="last"), length=3)
    assert network.embedding == "words"
    x = one(texts(4))
    with torch.no_grad():
        plain.words.weight[:3] = network.soft_prompt.tokens
    x = Tokens(x.ids.clamp(min=3) * x.mask, x.mask)
    prompt = torch.arange(3).expand(4, 3)
    longer = Tokens(torch.cat([x.ids[:, :1], prompt, x.ids[:, 1:]], 1), F.pad(x.mask, (3, 0), value=True))
    torch.testing.assert_close(network(x), plain(longer), rtol=1e-12, atol=1e-12)


def test_with_a_prompt_padding_changes_nothing_and_marks_stay_at_their_words():
    network, x = SoftPrompt(text_network(), length=3), one(texts(4))
    padded = Tokens(F.pad(x.ids, (0, 8)), F.pad(x.mask, (0, 8)))
    torch.testing.assert_close(network(padded), network(x), rtol=1e-12, atol=1e-12)
    marked = MarkedTokens(x.ids, x.mask, torch.tensor([[0, 1]] * 4))
    assert with_places(marked, 3).spans.tolist() == [[0, 4]] * 4
    with pytest.raises(SettingError, match="texts are Tokens"):
        network(torch.zeros(2, 3))


def test_a_prompt_adapts_alone_as_a_context():
    torch.manual_seed(3)
    data, gradients = episode("text"), []
    for engine in (Engine(mapping="loop"), Engine()):
        torch.manual_seed(3)
        network = Classifier(SoftPrompt(text_network(), length=3), ways=2).double()
        learner = MAML(network, 0.5, inner_steps=2, adapted=["*soft_prompt*"], engine=engine)
        learner.meta_loss(data).backward()
        gradients.append(network.body.soft_prompt.tokens.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-13)
    assert gradients[0].abs().max() > 0
    support = Labelled(one(data.support.x), data.support.y[0])
    assert set(learner.adapt(support).state) == {"body.soft_prompt.tokens"}
    copied = pickle.loads(pickle.dumps(deepcopy(network)))
    with torch.no_grad():
        copied.body.soft_prompt.tokens += 1  # the hook of the copy sees the prompt of the copy
    assert not torch.allclose(copied(one(data.support.x)), network(one(data.support.x)))


def test_where_a_prompt_goes_is_asked_for():
    with pytest.raises(SettingError, match="none is found"):
        SoftPrompt(mlp())
    with pytest.raises(SettingError, match=r"embedding is layers\.9"):
        SoftPrompt(mlp(), embedding="layers.9")
    network = SoftPrompt(mlp((6,), 5), embedding="layers.0")
    with pytest.raises(SettingError, match="width is 5"):
        network(torch.randn(2, 4).double())
