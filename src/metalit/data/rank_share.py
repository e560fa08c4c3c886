"""A loader of one's own on several ranks: each item for exactly one of them."""

from collections.abc import Iterator, Sized

from torch.utils.data import Sampler

from metalit.ranks import rank, world_size


class RankShare(Sampler[int]):
    """The items of a dataset that belong to this rank: every world-size-th, so that each goes to exactly one rank.

    For a ``DataLoader`` of episodes that no data module of metalit makes, with ``use_distributed_sampler=False``, else
    Lightning divides what is divided already, and repeats items until all ranks have equally many.

    Args:
        dataset: its items are the loader's batches, e.g. one ``Episode`` each.
        equal: leave out the last items where they do not suffice for all ranks. Training needs it: every rank takes
            part in every step. Evaluation must not have it: every episode counts once.
    """

    def __init__(self, dataset: Sized, *, equal: bool) -> None:
        self.dataset, self.equal = dataset, equal

    def __len__(self) -> int:
        return len(self._rows())

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows())

    def _rows(self) -> range:
        items, ranks = len(self.dataset), world_size()
        return range(rank(), items - items % ranks if self.equal else items, ranks)
