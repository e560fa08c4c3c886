"""What a network does at the zeros of padding reaches neither loss nor gradient."""

import pytest
import torch
from torch import nn

from metalit import MAML, Engine
from metalit.episode import Episode, Tokens, labelled
from metalit.functional.masks import filled, real_examples
from metalit.networks.cosine_layer import CosineLayer

SIZES = torch.tensor([6, 3, 2, 5])


class MeanOfTokens(nn.Module):
    """A bag of words, which divides by the number of tokens of each text."""

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(9, 4), nn.Linear(4, 2)

    def forward(self, x):
        total = (self.words(x.ids) * x.mask.unsqueeze(-1)).sum(dim=-2)
        return self.head(total / x.mask.sum(dim=-1, keepdim=True))


def texts(mask):
    lengths = torch.arange(4) < torch.randint(1, 5, (*mask.shape, 1))
    tokens = torch.randint(1, 9, (*mask.shape, 4))
    real = lengths & mask.unsqueeze(-1)
    return Tokens(tokens * real, real)


def vectors(mask):
    return torch.randn(*mask.shape, 3) * mask.unsqueeze(-1)


NETWORKS = {
    "texts": (texts, MeanOfTokens),
    "lengths": (vectors, lambda: nn.Sequential(nn.Linear(3, 4, bias=False), CosineLayer(4, 2))),
}


@pytest.mark.parametrize("engine", [Engine(), Engine("loop"), Engine(differentiate="inside")], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_second_order_gradients_are_those_of_the_tasks_alone(name, engine):
    inputs, make = NETWORKS[name]
    torch.manual_seed(0)
    mask = torch.arange(6) < SIZES.unsqueeze(1)
    parts = [labelled(inputs(mask), torch.randint(2, mask.shape).where(mask, 0), mask) for _ in range(2)]
    episode = Episode(*parts, torch.arange(4))
    network = make()
    learner = MAML(network, inner_lr=0.3, inner_steps=2, engine=engine)

    def gradient(episode):
        learner.zero_grad()
        learner.meta_loss(episode).backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    found, alone = gradient(episode), []
    for task in range(4):
        one = [real_examples(tree_of(part, task)) for part in parts]
        alone.append(gradient(Episode(*(batched(part) for part in one), torch.tensor([task]))))
    for value, others in zip(found, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(value, torch.stack(others).mean(dim=0))


def tree_of(part, task):
    return torch.utils._pytree.tree_map(lambda leaf: leaf[task], part)


def batched(part):
    return torch.utils._pytree.tree_map(lambda leaf: leaf.unsqueeze(0), part)


def test_padding_is_filled_with_the_first_example():
    part = labelled(torch.tensor([[3.0], [4.0], [0.0]]), torch.zeros(3), torch.tensor([True, True, False]))
    assert filled(part).x.tolist() == [[3.0], [4.0], [3.0]]
    assert filled(part).mask is part.mask
    assert filled(labelled(part.x, part.y)).x is part.x
