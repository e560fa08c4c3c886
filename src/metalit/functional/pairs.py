"""Pairs of examples of the same class and of different ones, drawn by given random numbers."""

import torch
from torch import Tensor


def contrastive_pairs(labels: Tensor, ways: int, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return R pairs of two examples of one class, and R of an example of it and one of another class, for each class.

    In each the first example is any of the class. The only example of a class is paired with itself.

    Args:
        labels: ``[S]`` int64 in 0..N-1, each class at least once.
        ways: N, >= 1.
        numbers: uniform in (0, 1), ``[2 R N, 2, S]``.

    Returns:
        The indices of the first and of the second examples, ``[2 R N]`` each, and 1 for pairs of one class, else 0.
    """
    count, examples = len(numbers), labels.shape[0]
    # half of each class's pairs are to be of one class; with a single class there is no other to draw from
    classes = torch.arange(count, device=labels.device) % ways
    alike = (torch.arange(count, device=labels.device) // ways) % 2 == 0
    own = labels == classes.unsqueeze(-1)  # [pairs, S]
    first = torch.where(own, numbers[:, 0], -1.0).argmax(dim=-1)
    wanted = own == alike.unsqueeze(-1)
    same = torch.arange(examples, device=labels.device) == first.unsqueeze(-1)
    # an example itself comes after all others that are wanted, and before those that are not
    scores = torch.where(same, -1.0, torch.where(wanted, numbers[:, 1], -2.0))
    second = scores.argmax(dim=-1)
    target = labels.index_select(0, first) == labels.index_select(0, second)
    return first, second, target.to(numbers.dtype)
