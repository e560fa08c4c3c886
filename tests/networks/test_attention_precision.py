"""Attention in mixed precision: meta-gradients through every kind of it are taken, and go where those of float32 go."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

from layers import Masked, ScaledDotProduct, SelfAttention
from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.networks import Classifier, LoRA, Pretrained, PretrainedText, TextTransformer, Tuned
from random_texts import WORDS, text_episode

HALF = [torch.bfloat16, torch.float16]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TEXTS = {"vocab_size": WORDS, "max_position_embeddings": 32}
CALM = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    transformers = pytest.importorskip("transformers", reason="needs metalit[text], which is not installed")
    root, side = tmp_path_factory.mktemp("models"), {"height": 16, "width": 16}
    configs = {
        "bert": transformers.BertConfig(**SIZES, **TEXTS, **CALM),
        "llama": transformers.LlamaConfig(**SIZES, **TEXTS, num_key_value_heads=1),
        "vit": transformers.ViTConfig(**SIZES, image_size=16, patch_size=8),
    }
    for name, config in configs.items():
        torch.manual_seed(0)
        transformers.AutoModel.from_config(config).save_pretrained(root / name)
    transformers.ViTImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3, size=side).save_pretrained(root / "vit")
    return root


def lora(body, layers):
    return LoRA(body, layers, rank=2, init=0.3)


NETWORKS = {
    "LoRA of BERT": lambda folder: lora(PretrainedText(str(folder / "bert")), ["*.query", "*.value"]),
    "LoRA of Llama": lambda folder: lora(PretrainedText(str(folder / "llama")), ["*.q_proj", "*.v_proj"]),
    "biases of BERT": lambda folder: Tuned(PretrainedText(str(folder / "bert")), ["*layer*bias"]),
    "BERT": lambda folder: PretrainedText(str(folder / "bert"), trained="all"),
    "LoRA of ViT": lambda folder: lora(Pretrained(str(folder / "vit")), ["*.q_proj", "*.v_proj"]),
    "TextTransformer": lambda _: TextTransformer(WORDS, 16),
}


def images():
    torch.manual_seed(2)
    y = torch.tensor([[0, 1, 0, 1]] * 2)
    return Episode(*(Labelled(torch.rand(2, 4, 3, 16, 16), y) for _ in range(2)), torch.arange(2))


def meta_gradient(body, episode, half=None, engine=None, **settings):
    torch.manual_seed(1)
    learner = MAML(Classifier(body, ways=2), inner_lr=0.1, inner_steps=2, engine=engine or Engine(), **settings)
    with torch.autocast("cpu", half, enabled=half is not None):
        loss = learner.meta_loss(episode)
    loss.backward()
    return parameters_to_vector([each.grad for each in learner.parameters() if each.requires_grad])


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("name", list(NETWORKS))
def test_mixed_precision_takes_the_meta_gradient(name, half, folders):
    def found(half=None, **settings):
        torch.manual_seed(0)
        return meta_gradient(NETWORKS[name](folders), images() if "ViT" in name else text_episode(2), half, **settings)

    expected = found()
    for settings in ({}, {"inner_autocast": True}, {"engine": Engine("loop")}):
        assert (found(half, **settings) - expected).norm() < 40 * torch.finfo(half).eps * expected.norm()


class Pooled(nn.Module):
    """A layer over tokens and linear maps around it."""

    features = 4

    def __init__(self, layer):
        super().__init__()
        self.before, self.layer = nn.Linear(4, 4), layer

    def forward(self, x):
        return self.layer(self.before(x)).mean(dim=1)


LAYERS = {
    "function": ScaledDotProduct,
    "causal function": partial(ScaledDotProduct, is_causal=True),
    "function with dropout": partial(ScaledDotProduct, dropout_p=0.3),
    "nn.MultiheadAttention": SelfAttention,
    "nn.MultiheadAttention without weights": partial(SelfAttention, need_weights=False),
    "nn.TransformerEncoder": partial(Masked, dropout=0.0),
}


@pytest.mark.parametrize("half", HALF)
@pytest.mark.parametrize("name", list(LAYERS))
def test_so_it_does_through_layers_of_torch(name, half):
    torch.manual_seed(2)
    y = torch.tensor([[0, 1, 0, 1]] * 2)
    episode = Episode(*(Labelled(torch.randn(2, 4, 5, 4), y) for _ in range(2)), torch.arange(2))

    def found(half=None, **settings):
        torch.manual_seed(0)
        return meta_gradient(Pooled(LAYERS[name]()), episode, half, **settings)

    expected = found()
    for settings in ({}, {"inner_autocast": True}, {"engine": Engine("loop")}):
        assert (found(half, **settings) - expected).norm() < 40 * torch.finfo(half).eps * expected.norm()
