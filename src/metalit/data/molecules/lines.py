"""Files of molecules, ``<task>.jsonl.gz``: one molecule per line, as a JSON object."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.data.columns import shown
from metalit.data.graphs.json_lines import numbered_rows
from metalit.errors import UserError

SUFFIX = ".jsonl.gz"
Floats = npt.NDArray[np.float64]


class Line(NamedTuple):
    """One molecule of a file.

    Attributes:
        molecule: the JSON object.
        where: file and number of the line, for messages.
    """

    molecule: Mapping[str, Any]
    where: str

    def entry(self, *keys: str) -> Any:
        """Return an entry of the molecule, or of an object within it.

        Raises:
            UserError: there is none.
        """
        value: Any = self.molecule
        for key in keys:
            if not isinstance(value, Mapping) or key not in value:
                raise UserError(
                    f"{self.where} has no {'.'.join(keys)}: each line is one molecule with SMILES, Property, "
                    "fingerprints, descriptors and graph, as FS-Mol's files have them"
                )
            value = value[key]
        return value

    def numbers(self, *keys: str) -> Floats:
        """Return an entry that is a list of numbers, ``[n]``, or of lists of equally many numbers, ``[n, m]``.

        Raises:
            UserError: there is none, or it is something else.
        """
        value = self.entry(*keys)
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            array = np.zeros(())
        if not isinstance(value, list) or array.ndim == 0:
            raise UserError(f"{self.where} has {'.'.join(keys)} {shown(value)}, expected a list of numbers")
        return array

    def label(self) -> bool:
        """Return whether the molecule is active.

        Raises:
            UserError: ``Property`` is missing, or neither 0 nor 1.
        """
        number = self._number("Property")
        if number not in (0, 1):
            raise UserError(f"{self.where} has Property {shown(self.entry('Property'))}, expected 0 or 1")
        return number == 1

    def value(self, key: str) -> float:
        """Return a measured value; nan if there is none, or an empty one.

        Raises:
            UserError: it is no number.
        """
        return math.nan if self.molecule.get(key) in (None, "") else self._number(key)

    def _number(self, key: str) -> float:
        value = self.entry(key)
        try:
            return float(value)  # the files have numbers as text
        except (TypeError, ValueError):
            raise UserError(f"{self.where} has {key} {shown(value)}, expected a number") from None


def lines(path: Path) -> Iterator[Line]:
    """Yield the molecules of a file.

    Raises:
        UserError: the file is not gzip or not complete, a line is no JSON object, or there is no molecule.
    """
    empty = True
    for number, row in numbered_rows(path, str(path)):
        empty = False
        yield Line(row, f"{path}, line {number},")
    if empty:
        raise UserError(f"{path} holds no molecule: take it out, or unpack the archive of the data again")
