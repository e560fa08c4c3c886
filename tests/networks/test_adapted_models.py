"""Own LoRA and peft's adapters in models of transformers: gradients against a loop, and what is trained."""

import importlib

import pytest
import torch
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import ANIL, FOMAML, MAML, MetaSGD, Reptile
from metalit.engine.certified import uncertified
from metalit.episode import Tokens
from metalit.errors import SettingError
from metalit.networks import MLP, Classifier, LoRA, Peft, Pretrained, PretrainedText, SoftPrompt

transformers = pytest.importorskip("transformers", reason="needs metalit[vision], which is not installed")
needs_peft = pytest.mark.skipif(
    importlib.util.find_spec("peft") is None, reason="needs metalit[text], which is not installed"
)
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 16, "patch_size": 8,
       "intermediate_size": 32}  # fmt: skip
PROCESSOR = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 16, "width": 16}}


@pytest.fixture(scope="module")
def vit(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    transformers.ViTModel(transformers.ViTConfig(**VIT)).save_pretrained(folder)
    transformers.ViTImageProcessor(**PROCESSOR).save_pretrained(folder)
    return str(folder)


SMALL = {"vocab_size": 40, "max_position_embeddings": 32}
BERT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32} | SMALL
# the configuration, and the layers of queries and values
TEXT_MODELS = {
    "bert": (lambda: transformers.BertConfig(**BERT), ["query", "value"]),
    "distilbert": (
        lambda: transformers.DistilBertConfig(dim=16, n_layers=2, n_heads=2, hidden_dim=32, **SMALL), ["q_lin", "v_lin"]
    ),
    "roberta": (lambda: transformers.RobertaConfig(**BERT), ["query", "value"]),
    "llama": (lambda: transformers.LlamaConfig(num_key_value_heads=1, **BERT), ["q_proj", "v_proj"]),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("texts")
    for name, (config, _) in TEXT_MODELS.items():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config()).save_pretrained(root / name)
    return root


def texts():
    torch.manual_seed(2)
    y = torch.tensor([[0, 1, 0, 1]] * 2)

    def part():
        mask = torch.arange(8) < torch.randint(2, 9, (2, 4, 1))
        return Labelled(Tokens(torch.randint(5, 40, (2, 4, 8)) * mask, mask), y)

    return Episode(part(), part(), torch.arange(2))


def images():
    torch.manual_seed(2)
    part = Labelled(torch.rand(2, 4, 3, 16, 16, dtype=torch.float64), torch.tensor([[0, 1, 0, 1]] * 2))
    return Episode(part, tree_map(lambda x: x.flip(1), part), torch.arange(2))


def own(body, names):
    return LoRA(body, [f"*.{name}" for name in names], rank=2, init=0.3, dropout=0.2)


def of_peft(body, names):
    return Peft(body, options={"r": 2, "target_modules": names, "init_lora_weights": False, "lora_dropout": 0.2})


def prompt(body, names):
    return SoftPrompt(body, length=3)


ADAPTERS = {"LoRA": own, "Peft": of_peft, "SoftPrompt": prompt}
ADAPTED = ["*lora_*", "head.*"]
METHODS = {
    "MAML": lambda network, engine: MAML(network, 0.2, inner_steps=2, adapted=["*"], engine=engine),
    "Prompt": lambda network, engine: MAML(network, 0.2, adapted=["*soft_prompt*"], engine=engine),
    "FOMAML": lambda network, engine: FOMAML(network, 0.2, inner_steps=2, adapted=ADAPTED, engine=engine),
    "ANIL": lambda network, engine: ANIL(network, 0.2, inner_steps=2, engine=engine),
    "Reptile": lambda network, engine: Reptile(network, 0.02, inner_steps=2, engine=engine),
    "MetaSGD": lambda network, engine: MetaSGD(network, 0.2, adapted=ADAPTED, engine=engine),
}


def meta_gradient(method, body, episode, engine):
    torch.manual_seed(3)
    learner = METHODS[method](Classifier(body, ways=2).double(), engine)
    learner.meta_loss(episode).backward()
    return learner, {name: value.grad for name, value in learner.named_parameters() if value.requires_grad}


def assert_vmap_is_the_loop(method, make, episode):
    _, expected = meta_gradient(method, make(), episode, Engine(mapping="loop"))
    learner, found = meta_gradient(method, make(), episode, Engine())
    assert uncertified(learner) is not None  # layers of other libraries: gradients are taken inside vmap
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-10, atol=1e-13, msg=name)
    assert all(value.abs().max() > 0 for value in found.values())


@pytest.mark.parametrize("method", [name for name in METHODS if name != "Prompt"])
@pytest.mark.parametrize("adapter", ["LoRA", pytest.param("Peft", marks=needs_peft)])
def test_meta_gradient_of_a_vision_transformer_is_that_of_a_loop(vit, adapter, method):
    def make():
        torch.manual_seed(5)
        return ADAPTERS[adapter](Pretrained(vit), ["q_proj", "v_proj"])

    assert_vmap_is_the_loop(method, make, images())


# one method for each model and adapter, every method with LoRA in BERT
TEXT_ROWS = [
    *[("bert", "LoRA", method) for method in METHODS if method != "Prompt"],
    *[(model, "LoRA", "MAML") for model in TEXT_MODELS if model != "bert"],
    *[(model, "Peft", "MAML") for model in TEXT_MODELS],
    *[(model, "SoftPrompt", "MAML") for model in TEXT_MODELS],
]


@pytest.mark.parametrize(
    ("model", "adapter", "method"),
    [pytest.param(*row, marks=[needs_peft] if row[1] == "Peft" else [], id="-".join(row)) for row in TEXT_ROWS],
)
def test_meta_gradient_of_a_language_model_is_that_of_a_loop(folders, model, adapter, method):
    def make():
        torch.manual_seed(5)
        return ADAPTERS[adapter](PretrainedText(str(folders / model)), TEXT_MODELS[model][1])

    assert_vmap_is_the_loop(method, make, texts())


def test_a_prompt_is_behind_the_class_token_of_an_image(vit):
    plain, network = Pretrained(vit, pool="mean", layer=0), SoftPrompt(Pretrained(vit, pool="mean", layer=0), length=2)
    assert network.embedding == "encoder.embeddings"
    x = torch.rand(3, 3, 16, 16)
    # the mean over five tokens becomes that over seven
    expected = (5 * plain(x) + network.soft_prompt.tokens.sum(dim=0)) / 7
    torch.testing.assert_close(network(x), expected)
    tokens = network.network.encoder.embeddings(torch.rand(3, 3, 16, 16))
    assert torch.equal(tokens[:, 1:3], network.soft_prompt.tokens.expand(3, -1, -1))


def test_the_prompt_of_a_vision_transformer_adapts(vit):
    def make():
        torch.manual_seed(5)
        return SoftPrompt(Pretrained(vit), length=2)

    assert_vmap_is_the_loop("Prompt", make, images())


@needs_peft
@pytest.mark.parametrize(
    ("config", "options", "says"),
    [
        ("LoraConfg", {}, "the name of a configuration"),
        ("PromptTuningConfig", {}, "SoftPrompt"),
        ("LoraConfig", {"rank": 2}, "rank"),
        ("LoraConfig", {"target_modules": ["query"]}, "query"),
    ],
)
def test_what_peft_cannot_do_is_one_message(config, options, says):
    with pytest.raises(SettingError, match=says):
        Peft(MLP(4, (4,), 2), config, options)


@needs_peft
def test_of_peft_the_adapters_alone_are_trained():
    network = Peft(
        MLP(4, (4,), 2), "IA3Config", {"target_modules": ["0"], "feedforward_modules": []}, ["layers.2.bias"]
    )
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    assert trained == {"network.layers.0.ia3_l.default", "network.layers.2.bias"}
    assert network.setting()["peft"].startswith("IA3Config(")
    on = {name for name, module in network.named_modules() if module.training}
    assert "network.layers.0.ia3_l" in on
    assert "network.layers.0.base_layer" not in on


def test_peft_is_named_when_it_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(ImportError, match=r"metalit\[text\]"):
        Peft(MLP(4, (4,), 2))


def test_layers_of_another_class_are_named():
    config = transformers.GPT2Config(n_embd=8, n_layer=1, n_head=2, vocab_size=10, bos_token_id=1, eos_token_id=1)
    with pytest.raises(SettingError, match="of class Conv1D"):
        LoRA(transformers.GPT2Model(config), ["*.c_attn"])
