"""The kinds of files that a user's examples come from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from metalit.inference.given import Given
from metalit.inference.recognised import Recognised

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Source(ABC):
    """Reads the examples of ``--support`` and ``--query``, and says how results show them.

    Attributes:
        noun: what the examples are called, in the plural.
        column: the heading of their names in a table of results.
        advice: how to give several classes, in a message.
    """

    noun: str
    column: str
    advice: str

    @abstractmethod
    def labelled(self, path: Path) -> Given:
        """Return the examples of the classes to be learned; each has a label.

        Raises:
            FileNotFoundError: there is no such file or folder.
            UserError: there are no examples, or some cannot be used; the message names them with the reason.
        """

    @abstractmethod
    def unlabelled(self, path: Path) -> Given:
        """Return the examples to be recognised; errors are those of ``labelled``."""

    def remarks(self, support: Given, query: Given) -> Sequence[str]:
        """Return what the user should know of the two sets together, a line each; nothing by default."""
        return []

    def sheet(self, recognised: Recognised) -> "Figure | None":
        """Return a sheet of pictures of recognised examples; none by default."""
        return None
