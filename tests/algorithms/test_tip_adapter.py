"""Tip-Adapter and Tip-Adapter-F: the paper's formula, the authors' fine-tuning with torch's optimiser, and texts."""

import lightning as L
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cases import DOMAINS
from metalit import Labelled
from metalit.algorithms import PrototypicalNetwork, TipAdapter, TipAdapterF
from metalit.heads import Cosine

pytestmark = pytest.mark.algorithms("TipAdapter", "TipAdapterF")


def task(ways=3, shots=4, queries=6, features=5):
    torch.manual_seed(0)
    centres, y = torch.randn(ways, features), torch.arange(ways).repeat(shots)
    x, q = (centres[k] + torch.randn(len(k), features) for k in (y, torch.arange(ways).repeat(queries)))
    return Labelled(x, y), q, nn.functional.normalize(torch.randn(ways, features), dim=1)


def by_hand(support, queries, text, *, residual, sharpness, steps=0, rate=0.001):
    """The authors' main.py: a linear layer of keys, AdamW with eps 1e-4, a cosine schedule."""
    x, q = (nn.functional.normalize(each, dim=1) for each in (support.x, queries))
    values = nn.functional.one_hot(support.y).float()
    adapter = nn.Linear(*x.T.shape, bias=False)
    adapter.weight = nn.Parameter(x.clone())
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=rate, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))

    def logits(embeddings):
        cached = residual * (-(sharpness - sharpness * adapter(embeddings))).exp() @ values
        return cached if text is None else cached + 100.0 * embeddings @ text.T

    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits(x), support.y).backward()
        optimizer.step()
        schedule.step()
    return logits(q).detach()


@pytest.mark.parametrize("suffix", [None, ".pt", ".npy", ".safetensors"])
def test_the_formula_of_the_paper(suffix, tmp_path):
    support, queries, text = task()
    path = None if suffix is None else tmp_path / f"text{suffix}"
    if suffix == ".pt":
        torch.save(3 * text, path)  # lengths are ignored
    elif suffix == ".npy":
        np.save(path, text.numpy())
    elif suffix == ".safetensors":
        save_file({"text": text}, path)
    settings = {"residual": 2.0, "sharpness": 3.0}
    learner = TipAdapter(nn.Identity(), text=path and str(path), **settings)
    expected = by_hand(support, queries, text if suffix else None, **settings)
    torch.testing.assert_close(learner.adapt(support)(queries), expected)


@pytest.mark.parametrize("with_text", [False, True])
def test_fine_tuning_is_the_authors(with_text, tmp_path):
    support, queries, text = task()
    torch.save(text, tmp_path / "text.pt")
    settings = {"residual": 1.5, "sharpness": 2.0, "steps": 20}
    path = str(tmp_path / "text.pt") if with_text else None
    found = TipAdapterF(nn.Identity(), text=path, learning_rate=0.01, **settings).adapt(support)(queries)
    expected = by_hand(support, queries, text if with_text else None, rate=0.01, **settings)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    before = by_hand(support, queries, text if with_text else None, residual=1.5, sharpness=2.0)
    assert (found - before).abs().max() > 0.05


def test_without_steps_it_is_tip_adapter():
    support, queries, _ = task()
    one, other = TipAdapter(nn.Identity()), TipAdapterF(nn.Identity(), steps=0)
    torch.testing.assert_close(one.adapt(support)(queries), other.adapt(support)(queries))


def test_with_one_shot_and_no_text_its_classes_are_those_of_the_largest_cosine():
    support, queries, _ = task(shots=1)
    cosine = PrototypicalNetwork(nn.Identity(), Cosine())
    assert torch.equal(TipAdapter(nn.Identity()).adapt(support).labels(queries), cosine.adapt(support).labels(queries))


def test_texts_are_refused_where_they_cannot_be_right(tmp_path):
    support, _, text = task()
    torch.save(text, tmp_path / "text.pt")
    learner = TipAdapter(nn.Flatten(), text=str(tmp_path / "text.pt"))
    trainer = L.Trainer(logger=False, accelerator="cpu", inference_mode=False, enable_checkpointing=False)
    with pytest.raises(ValueError, match="each episode draws its classes"):
        trainer.test(learner, DOMAINS["glyphs"].data())
    fewer = Labelled(support.x[support.y < 2], support.y[support.y < 2])
    with pytest.raises(ValueError, match="give one text of that length for each class"):
        learner.adapt(fewer)
    with pytest.raises(ValueError, match="there is no such file"):
        TipAdapter(nn.Identity(), text="nowhere.pt")
    torch.save({"a": text, "b": text}, tmp_path / "two.pt")
    with pytest.raises(ValueError, match="holds dict"):
        TipAdapter(nn.Identity(), text=str(tmp_path / "two.pt"))
    (tmp_path / "text.txt").write_text("cat, dog")
    with pytest.raises(ValueError, match="not a file of tensors"):
        TipAdapter(nn.Identity(), text=str(tmp_path / "text.txt"))


@pytest.mark.parametrize(("name", "value"), [("residual", 0), ("sharpness", 0), ("steps", -1), ("learning_rate", 0)])
def test_impossible_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match=f" is {value}"):
        TipAdapterF(nn.Identity(), **{name: value})
