"""Every module that metalit defines is in a learner whose gradient over ``vmap`` is compared with the loop's.

Most are in THE table, whose battery does that (``test_engine_settings_change_no_number``); the others, and the options
of Conv4, are here.
"""

import importlib
import inspect
import pkgutil
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from torch import nn

import metalit
from algorithms.test_battery import assert_same_gradient, double, meta_gradient, rows
from cases import CASES
from metalit import MAML, Engine
from metalit.algorithms import DeepKernelTransfer, MatchingNetwork, MetaLearner, PrototypicalNetwork, Reptile
from metalit.engine.certified import is_own, uncertified
from metalit.heads import CosineKernel, LinearKernel, Matern52Kernel, RBFKernel, SpectralMixtureKernel
from metalit.heads.attention import FullContext
from metalit.inference.exported import Exportable
from metalit.networks import (
    GIN,
    MLP,
    WRN2810,
    Backbone,
    BagOfWords,
    Bottleneck,
    Classifier,
    Conv4,
    Frozen,
    GatedGCN,
    Joined,
    LinearHead,
    LoRA,
    Peft,
    Pretrained,
    PretrainedText,
    PyGNetwork,
    ResNet12,
    SoftPrompt,
    StaticVectors,
    TextTransformer,
    Tuned,
    Vectors,
)
from metalit.networks.adapters.soft_prompt import Prompt
from metalit.networks.pretrained.from_transformers import ImageTower
from metalit.networks.training_inputs import observers
from metalit.tasks.method_call import Method
from policies import POLICIES
from random_complexes import complex_episode, complex_maml
from random_graphs import EDGE_LENGTH, NODE_LENGTH, graph_episode, graph_maml
from random_texts import WORDS, maml, random_tokens, text_episode


def conv4(engine, *options):
    body = Conv4(4, **dict(zip(("batch_norm", "downsample", "channels_last"), options, strict=True)))
    return MAML(Classifier(body, ways=3), inner_lr=0.1, inner_steps=2, engine=engine)


def text_learner(body, engine):
    """MAML of all parameters of an encoder of texts, whose weights of words are those of some texts."""
    learner = maml(body, engine)
    for part in observers(learner):
        part.observe([random_tokens(9, seed=5)])
    return learner


def static_vectors():
    with TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npz"
        vectors = torch.randn(WORDS - 2, 6).numpy()
        np.savez(path, words=np.array([f"w{number}" for number in range(WORDS - 2)]), vectors=vectors)
        return StaticVectors(str(path), weighting="idf", normalise=True, trained=True)


LEARNERS = (
    {
        "BagOfWords": ("texts", lambda engine: text_learner(BagOfWords(WORDS, log_counts=True), engine)),
        "Joined": (
            "texts",
            lambda engine: text_learner(
                Joined([BagOfWords(WORDS), TextTransformer(WORDS, 8, layers=0, weighting="idf")]), engine
            ),
        ),
        "StaticVectors": ("texts", lambda engine: text_learner(static_vectors(), engine)),
        "TextTransformer": (
            "texts",
            lambda engine: text_learner(
                TextTransformer(WORDS, 8, heads=2, dropout=0.2, word_dropout=0.2, weighting="idf"), engine
            ),
        ),
        "TextTransformer of marks": (
            "marked texts",
            lambda engine: text_learner(TextTransformer(WORDS, 8, heads=2, pool="marks"), engine),
        ),
        "TextTransformer of last": (
            "texts",
            lambda engine: text_learner(TextTransformer(WORDS, 8, heads=2, pool="last"), engine),
        ),
        "GIN": (
            "graphs",
            lambda engine: graph_maml(GIN(NODE_LENGTH, EDGE_LENGTH, 8, 2, readout="attention", dropout=0.2), engine),
        ),
        "LinearHead": ("sinusoid", lambda engine: MAML(LinearHead(MLP(hidden=(8,), outputs=6)), 0.1, engine=engine)),
        "GatedGCN": (
            "graphs",
            lambda engine: graph_maml(GatedGCN(NODE_LENGTH, EDGE_LENGTH, 8, 2, readout="max", dropout=0.2), engine),
        ),
        "ProteinLigandNetwork with affinities": ("complexes", lambda engine: complex_maml("affinity", engine)),
        "ProteinLigandNetwork with densities": ("complexes", lambda engine: complex_maml("density", engine)),
        "Reptile by Adam": (
            "sinusoid",
            lambda engine: Reptile(MLP(hidden=(20, 20)), inner_lr=0.01, inner_steps=3, engine=engine),
        ),
        "FullContext": (
            "glyphs",
            lambda engine: MatchingNetwork(
                Conv4(4, batch_norm="running"), full_context=FullContext(4, steps=2), engine=engine
            ),
        ),
        "ResNet12": (
            "glyphs",
            lambda engine: PrototypicalNetwork(
                ResNet12((2, 3, 3, 4), in_channels=1, image_size=28, block_size=2), engine=engine
            ),
        ),
        "WRN2810": (
            "glyphs",
            lambda engine: PrototypicalNetwork(
                WRN2810(in_channels=1, image_size=28, drop_rate=0.2, depth=10, width=1), engine=engine
            ),
        ),
        "Backbone": (
            "glyphs",
            lambda engine: MAML(
                Classifier(
                    Backbone(
                        Conv4(4, image_size=20),
                        mean=(0.4,),
                        std=(0.3,),
                        image_size=20,
                        trained="all",
                        batch_norm="running",
                    ),
                    ways=3,
                ),
                inner_lr=0.1,
                inner_steps=2,
                engine=engine,
            ),
        ),
        "LoRA": (
            "sinusoid",
            lambda engine: MAML(LoRA(MLP(hidden=(8, 8)), ["*"], rank=2, init=0.3), 0.1, inner_steps=2, engine=engine),
        ),
        "Bottleneck": (
            "sinusoid",
            lambda engine: MAML(Bottleneck(MLP(hidden=(8, 8)), ["*"], width=3, init=0.5), 0.1, engine=engine),
        ),
        "Tuned": ("sinusoid", lambda engine: MAML(Tuned(MLP(hidden=(8, 8)), ["*.bias"]), 0.1, engine=engine)),
        "Frozen": (
            "sinusoid",
            lambda engine: MAML(
                nn.Sequential(Frozen(MLP(hidden=(8,), outputs=6)), nn.Linear(6, 1)), 0.1, engine=engine
            ),
        ),
        "Vectors": (
            "glyphs",
            lambda engine: PrototypicalNetwork(
                nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 5), Vectors(5)), engine=engine
            ),
        ),
    }
    | {
        f"DeepKernelTransfer with {type(kernel).__name__}": (
            "sinusoid",
            lambda engine, kernel=kernel: DeepKernelTransfer(MLP(hidden=(8,), outputs=6), kernel, engine=engine),
        )
        for kernel in (RBFKernel(), Matern52Kernel(), SpectralMixtureKernel(6, 2), LinearKernel(), CosineKernel())
    }
    | {
        f"Conv4 {norm} {downsample} {last}": (
            "glyphs",
            lambda engine, options=(norm, downsample, last): conv4(engine, *options),
        )
        for norm, downsample, last in product(("batch", "running", "renorm", "none"), ("pool", "stride"), (False, True))
    }
)


def made(name, engine=None):
    torch.manual_seed(3)
    return LEARNERS[name][1](engine or Engine()).double()


def episode_of(domain):
    if domain in ("graphs", "complexes"):
        return graph_episode() if domain == "graphs" else complex_episode()
    return text_episode(marked=domain == "marked texts") if domain.endswith("texts") else double(domain)


@pytest.mark.parametrize("name", LEARNERS)
@pytest.mark.sample(3)
def test_over_vmap_it_is_the_gradient_of_the_loop(name):
    episode = episode_of(LEARNERS[name][0])
    expected = meta_gradient(made(name, Engine("loop")), episode)
    assert_same_gradient(meta_gradient(made(name, Engine(differentiate="over")), episode), expected)


def own_modules():
    """The final classes of networks, heads and the like that metalit defines."""
    for package in pkgutil.walk_packages(metalit.__path__, "metalit."):
        if not package.name.endswith("__main__"):
            importlib.import_module(package.name)

    def below(kind):
        return {kind}.union(*map(below, kind.__subclasses__()))

    return {
        kind
        for kind in below(nn.Module)
        if is_own(kind.__module__) and not issubclass(kind, MetaLearner) and not inspect.isabstract(kind)
    }


def test_every_module_of_metalit_is_compared_over_vmap():
    learners = [CASES[name].make(domain) for name, domain, _ in rows()] + [made(name) for name in LEARNERS]
    learners += [case.make() for case in POLICIES.values()]  # which have a battery of their own
    assert [reason for reason in map(uncertified, learners) if reason] == []
    compared = {type(module) for learner in learners for module in learner.modules()}
    # Method calls a module that it does not own, Exportable is made of a learned task; three hold models of
    # transformers, which tests/networks/test_pretrained.py and tests/networks/texts/test_pretrained_text.py compare,
    # one layers of peft (test_adapted_models.py); a prompt is put in by a hook, never differentiated over vmap, and
    # networks of PyG are mapped by a loop
    of_transformers = {Pretrained, ImageTower, PretrainedText}
    assert own_modules() - compared == {Method, Exportable, Peft, SoftPrompt, Prompt, PyGNetwork, *of_transformers}
