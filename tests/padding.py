"""Episodes of tasks of unequal size, made of episodes whose tasks have one size."""

import torch
from torch.utils._pytree import tree_map

from metalit.data import Sinusoid
from metalit.episode import labelled


def with_mask(episode):
    """The same episode with masks that are True everywhere."""

    def masked(part):
        return labelled(part.x, part.y, torch.ones(part.y.shape[:2], dtype=torch.bool))

    return episode._replace(support=masked(episode.support), query=masked(episode.query))


def of_unequal_size(episode, support=1, query=2):
    """The episode, without some of the last places of every other task, which become padding."""

    def shortened(part, fewer):
        mask = torch.ones(part.y.shape[:2], dtype=torch.bool)
        mask[1::2, -fewer:] = False
        return labelled(*(tree_map(lambda leaf: where(mask, leaf, 0), tuple(part[:2]))), mask)

    return episode._replace(support=shortened(episode.support, support), query=shortened(episode.query, query))


def padded(episode, support=2, query=3):
    """The episode with more places, which are no examples and hold numbers of other examples of the task."""

    def longer(part, more):
        def scaled(leaf):
            return 3 * leaf[:, :more] if leaf.is_floating_point() else leaf[:, :more]

        x = tree_map(lambda leaf: torch.cat([leaf, scaled(leaf)], dim=1), part.x)
        y, mask = (torch.cat([leaf, torch.zeros_like(leaf[:, :more])], dim=1) for leaf in (part.y, part.mask))
        return labelled(x, y, mask)

    return episode._replace(support=longer(episode.support, support), query=longer(episode.query, query))


def where(mask, leaf, value):
    return torch.where(mask.reshape(*mask.shape, *[1] * (leaf.dim() - 2)), leaf, torch.full_like(leaf, value))


class UnequalSinusoids(Sinusoid):
    """Sinusoids of which every other task of a batch is smaller, and those numbered 1, 4, 7, ... have one target."""

    metrics = ("rmse", "pearson")
    constant_every = 3

    def finish(self, episode, split):
        constant = (episode.index % self.constant_every == 1).reshape(-1, 1, 1)
        parts = (part._replace(y=torch.where(constant, 0.5, part.y)) for part in episode[:2])
        return of_unequal_size(type(episode)(*parts, episode.index))


class SizesByNumber(Sinusoid):
    """Sinusoids whose numbers of examples depend on their number, padded to the longest of a batch.

    Of four in a row the last two have fewer queries, and the third has one target.
    """

    metrics = ("mse", "pearson")

    def finish(self, episode, split):
        number = episode.index % 4
        fewer = {"support": number % 2, "query": 2 * (number > 1) + number % 2}

        def shortened(part, fewer):
            mask = torch.arange(part.y.shape[1]) < (part.y.shape[1] - fewer).unsqueeze(1)
            x, y = (where(mask, leaf, 0)[:, : mask.any(dim=0).sum()] for leaf in (part.x, part.y))
            return labelled(x, y, mask[:, : y.shape[1]])

        query = shortened(episode.query, fewer["query"])
        constant = (number == 2).reshape(-1, 1, 1)
        query = query._replace(y=torch.where(constant & query.mask.unsqueeze(-1), 0.5, query.y))
        return episode._replace(support=shortened(episode.support, fewer["support"]), query=query)
