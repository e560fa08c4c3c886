"""What a checkpoint brings from the data of its training to other data."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class TakesOver(Protocol):
    """A data module that uses what a training has found, such as the vocabulary of its texts.

    Lightning hands the state of a data module to one of the same class only, but a test may be on any other data.
    """

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Take over what belongs to the training, given the whole checkpoint."""
        ...
