"""Episodes of tasks of unequal size, made of episodes whose tasks have one size."""

import torch
from torch.utils._pytree import tree_map

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
