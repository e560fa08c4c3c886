"""How the cells of a table become numbers: found on the rows of training tasks, kept in the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from metalit.data.stream import Integers
from metalit.data.task_tables.cells import Floats


class Cells(NamedTuple):
    """Rows of a table in short form.

    Attributes:
        numbers: ``[..., F]`` float32, standardised; NaN where a cell is empty.
        codes: ``[..., C]`` uint8 or int32, the number of each category.
    """

    numbers: Tensor
    codes: Tensor


@dataclass(frozen=True)
class NumberColumn:
    """How a column of numbers, dates or booleans is coded.

    Attributes:
        name: of the column.
        mean: of the training rows; it also stands for an empty cell.
        scale: standard deviation of the training rows; 1 for booleans.
        missing: whether training rows have empty cells, which an input of its own then marks.
    """

    name: str
    mean: float
    scale: float
    missing: bool

    @classmethod
    def fitted(cls, name: str, values: Floats, boolean: bool) -> Self | None:
        """Return the coding of a column, given its training rows ``[n]``; None if they are all the same."""
        missing = int(np.isnan(values).sum())
        known = values[~np.isnan(values)] if missing else values
        if not len(known) or (not missing and known.min() == known.max()):
            return None
        scale = 1.0 if boolean else float(known.std())
        return cls(name, float(known.mean()), scale if scale > 0 else 1.0, missing > 0)


@dataclass(frozen=True)
class CategoryColumn:
    """How a column of categories is coded: one input for each, one for all others, one for an empty cell.

    Attributes:
        name: of the column.
        values: the most frequent categories of the training rows.
        missing: whether training rows have empty cells; if not, an empty cell counts as another category.
    """

    name: str
    values: tuple[str, ...]
    missing: bool

    @property
    def width(self) -> int:
        """Number of inputs."""
        return len(self.values) + 1 + self.missing

    @classmethod
    def fitted(cls, name: str, codes: Integers, values: Sequence[str], most: int) -> Self | None:
        """Return the coding of a column, given the numbers ``[n]`` of its training rows; None if all are the same."""
        counts = np.bincount(codes + 1, minlength=len(values) + 1)
        missing, counts = bool(counts[0]), counts[1:]
        if np.count_nonzero(counts) + missing < 2:
            return None
        # by frequency, then by name, so that the order of rows does not matter
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda code: (-counts[code], values[code]))[:most]
        return cls(name, tuple(sorted(values[code] for code in order)), missing)

    def coded(self, codes: Integers, values: Sequence[str]) -> Integers:
        """Return the number of each cell, ``[n]`` in 0..width-1."""
        known = {value: number for number, value in enumerate(self.values)}
        other = len(self.values)
        # one more place at the end, where -1 for an empty cell leads
        table = np.array([known.get(value, other) for value in values] + [other + self.missing], dtype=np.int64)
        return table[codes]


@dataclass(frozen=True)
class Targets:
    """How the targets of a table are coded.

    Attributes:
        names: columns of the targets.
        means: of the training rows; empty in classification.
        scales: standard deviations of the training rows; empty in classification.
        classes: names of the classes in the order of their labels; empty in regression.
    """

    names: tuple[str, ...]
    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs of a network."""
        return len(self.classes) or len(self.names)


@dataclass(frozen=True)
class TableCoding:
    """How rows of a table become inputs of a network.

    Attributes:
        numbers: the columns of numbers, in their order.
        categories: the columns of categories, in their order.
        targets: the targets.
    """

    numbers: tuple[NumberColumn, ...]
    categories: tuple[CategoryColumn, ...]
    targets: Targets

    @cached_property
    def inputs(self) -> int:
        """Length D of an input: numbers, marks of empty cells, one-hot categories."""
        marks = sum(column.missing for column in self.numbers)
        return len(self.numbers) + marks + sum(column.width for column in self.categories)

    @cached_property
    def code_dtype(self) -> type[np.uint8] | type[np.int32]:
        """The smallest integers that hold all codes."""
        return np.uint8 if all(column.width <= 256 for column in self.categories) else np.int32

    def expanded(self, cells: Cells) -> Tensor:
        """Return the inputs ``[..., D]`` of rows, on their device and in torch's default precision."""
        numbers = cells.numbers.to(torch.get_default_dtype())
        marked = [place for place, column in enumerate(self.numbers) if column.missing]
        parts = [numbers.nan_to_num(nan=0.0)]
        if marked:
            parts.append(numbers[..., marked].isnan().to(numbers.dtype))
        if self.categories:
            widths = [column.width for column in self.categories]
            starts = torch.tensor([sum(widths[:place]) for place in range(len(widths))], device=numbers.device)
            hot = numbers.new_zeros(*numbers.shape[:-1], sum(widths))
            parts.append(hot.scatter_(-1, cells.codes.to(torch.int64) + starts, 1.0))
        return torch.cat(parts, dim=-1)

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` of regression in the units of the table."""
        scales, means = (values.new_tensor(each) for each in (self.targets.scales, self.targets.means))
        return values * scales + means

    def state(self) -> dict[str, Any]:
        """Return the coding as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Return the coding that ``state`` describes."""
        return cls(
            tuple(NumberColumn(**each) for each in state["numbers"]),
            tuple(CategoryColumn(**each | {"values": tuple(each["values"])}) for each in state["categories"]),
            Targets(**{name: tuple(value) for name, value in state["targets"].items()}),
        )
