"""Texts of random token ids, and episodes of them, for tests of encoders."""

import torch
import torch.nn.functional as F

from metalit import Engine, Episode, Labelled
from metalit.algorithms import MAML
from metalit.episode import MarkedTokens, Tokens
from metalit.networks import Classifier

WORDS = 40


def random_tokens(*shape, length=16, words=WORDS, seed=0, marked=False):
    """Texts of 3 to ``length`` ids ``[*shape, length]``, the first text the longest."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, length + 1, shape, generator=generator)
    lengths.view(-1)[0] = length
    mask = torch.arange(length) < lengths.unsqueeze(-1)
    # ids from 4: those below are special to some models
    ids = torch.randint(4, words, (*shape, length), generator=generator) * mask
    if not marked:
        return Tokens(ids, mask)
    spans = torch.stack([torch.zeros_like(lengths), lengths - 1], dim=-1)
    return MarkedTokens(ids, mask, spans)


def longer(x, length=64):
    """The same texts with more padding."""
    behind = (0, length - x.ids.shape[-1])
    return x._replace(ids=F.pad(x.ids, behind), mask=F.pad(x.mask, behind))


def text_episode(tasks=3, marked=False):
    """Tasks of 2 classes, 2 shots and 3 queries."""

    def examples(seed, n):
        x = random_tokens(tasks, n, length=8, seed=seed, marked=marked)
        return Labelled(x, (torch.arange(n) % 2).expand(tasks, -1))

    return Episode(examples(1, 4), examples(2, 6), torch.arange(tasks))


def shaken(network, by=0.3, seed=1):
    """The network with its trained weights away from where they start, such as zeros and ones, in float64."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in network.double().parameters():
        if parameter.requires_grad:
            parameter.data += by * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return network


def maml(body, engine=None, **settings):
    """A second-order MAML around an encoder of texts, in float64."""
    torch.manual_seed(0)
    network = shaken(Classifier(body, ways=2), by=0.05)
    return MAML(network, inner_lr=0.1, inner_steps=2, engine=engine or Engine(), **settings).double()
