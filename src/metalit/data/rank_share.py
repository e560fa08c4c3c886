"""A sampler that divides a user's own loader among the ranks."""

from collections.abc import Iterator, Sized

from torch.utils.data import Sampler

from metalit.ranks import rank, world_size


class RankShare(Sampler[int]):
    """The share of this rank in the items of a dataset: every world-size-th, so that each item goes to one rank only.

    Use it for a ``DataLoader`` of episodes that no data module of metalit builds, and pass
    ``use_distributed_sampler=False`` to the trainer. Lightning would otherwise divide the items a second time, and
    repeat some until all ranks have equally many.

    Args:
        dataset: its items are the loader's batches, e.g. one ``Episode`` each.
        equal: drop the last items if they do not suffice for all ranks. Set it for training, where every rank takes
            part in every step, and not for evaluation, where every episode counts once.
    """

    def __init__(self, dataset: Sized, *, equal: bool) -> None:
        self.dataset, self.equal = dataset, equal

    def __len__(self) -> int:
        return len(self._rows())

    def __iter__(self) -> Iterator[int]:
        return iter(self._rows())

    # computed at each call and not in __init__: loaders are often made before the process group exists
    def _rows(self) -> range:
        items, ranks = len(self.dataset), world_size()
        return range(rank(), items - items % ranks if self.equal else items, ranks)
