"""Where training is in its stream of episodes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass
class Position:
    """The position of training in its stream; all a resume needs, with any world size.

    Attributes:
        episodes: number of episodes consumed by all ranks together.
        epoch_start: number of episodes consumed before the current epoch.
        epoch: Lightning's number of the current epoch; None until Lightning sets it.
    """

    episodes: int = 0
    epoch_start: int = 0
    epoch: int | None = None

    def begin_epoch(self, epoch: int | None = None) -> None:
        """Start an epoch at the next episode."""
        self.epoch_start, self.epoch = self.episodes, epoch

    def state_dict(self) -> dict[str, int | None]:
        """Return the position as a plain dictionary, for a checkpoint."""
        return asdict(self)

    def load_state_dict(self, state: Mapping[str, int | None]) -> None:
        """Restore a position."""
        # only the entries that are there: checkpoints of an older form have no epoch
        for name, value in state.items():
            setattr(self, name, value)
