"""Own LoRA and peft's adapters in models of transformers: gradients against a loop, and what is trained."""

import importlib

import pytest
import torch
from torch.utils._pytree import tree_map

from metalit import Engine, Episode, Labelled
from metalit.algorithms import ANIL, FOMAML, MAML, MetaSGD, Reptile
from metalit.engine.certified import uncertified
from metalit.errors import SettingError
from metalit.networks import MLP, Classifier, LoRA, Peft, Pretrained

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


def images():
    torch.manual_seed(2)
    part = Labelled(torch.rand(2, 4, 3, 16, 16, dtype=torch.float64), torch.tensor([[0, 1, 0, 1]] * 2))
    return Episode(part, tree_map(lambda x: x.flip(1), part), torch.arange(2))


def own(body, names):
    return LoRA(body, [f"*.{name}" for name in names], rank=2, init=0.3)


def of_peft(body, names):
    return Peft(body, options={"r": 2, "target_modules": names, "init_lora_weights": False})


ADAPTERS = {"LoRA": own, "Peft": of_peft}
METHODS = {
    "MAML": lambda network, engine: MAML(network, 0.2, inner_steps=2, adapted=["*lora_*", "head.*"], engine=engine),
    "FOMAML": lambda network, engine: FOMAML(network, 0.2, inner_steps=2, adapted=["*lora_*", "head.*"], engine=engine),
    "ANIL": lambda network, engine: ANIL(network, 0.2, inner_steps=2, engine=engine),
    "Reptile": lambda network, engine: Reptile(network, 0.02, inner_steps=2, engine=engine),
    "MetaSGD": lambda network, engine: MetaSGD(network, 0.2, adapted=["*lora_*", "head.*"], engine=engine),
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
    assert all(value.abs().max() > 0 for name, value in found.items() if "lora" in name)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("adapter", ["LoRA", pytest.param("Peft", marks=needs_peft)])
def test_meta_gradient_of_a_vision_transformer_is_that_of_a_loop(vit, adapter, method):
    def make():
        torch.manual_seed(5)
        return ADAPTERS[adapter](Pretrained(vit), ["q_proj", "v_proj"])

    assert_vmap_is_the_loop(method, make, images())
