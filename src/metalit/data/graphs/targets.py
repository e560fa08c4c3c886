"""How the targets of graphs become labels or standardised values: found on training tasks, kept in the checkpoint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from metalit.data.graphs.graph import Graph
from metalit.data.graphs.reading import as_number, class_target, number_target
from metalit.errors import SettingError, UserError

Kind = Literal["regression", "classification"]


@dataclass(frozen=True)
class GraphTargets:
    """How targets are coded.

    Attributes:
        means: of the training graphs; empty in classification.
        scales: standard deviations of the training graphs; empty in classification.
        classes: names of the classes in the order of their labels; empty in regression.
    """

    means: tuple[float, ...] = ()
    scales: tuple[float, ...] = ()
    classes: tuple[str, ...] = ()

    @property
    def outputs(self) -> int:
        """Number of outputs of a network."""
        return len(self.classes) or len(self.means)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics of a task that say most of such targets."""
        if not self.classes:
            return "mse", "rmse", "pearson"
        return ("accuracy", "average_precision", "delta_auprc") if len(self.classes) == 2 else ("accuracy",)

    def coded(self, graphs: Sequence[Graph]) -> Tensor:
        """Return labels ``[n]`` int64, or standardised values ``[n, outputs]`` float64.

        Raises:
            UserError: a class is not one of the training tasks', or there are more or fewer numbers than there.
        """
        if not self.classes:
            values = torch.tensor(_stacked(graphs, len(self.means)), dtype=torch.float64)
            return (values - values.new_tensor(self.means)) / values.new_tensor(self.scales)
        labels = {name: number for number, name in enumerate(self.classes)}
        for graph in graphs:
            if class_target(graph) not in labels:
                raise UserError(
                    f"{graph.name}: its target {class_target(graph)} is no class of the training tasks, which have "
                    f"{', '.join(self.classes)}"
                )
        return torch.tensor([labels[class_target(graph)] for graph in graphs])

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` in the units of the file; logits are returned unchanged."""
        return values if self.classes else values * values.new_tensor(self.scales) + values.new_tensor(self.means)

    def state(self) -> dict[str, Any]:
        """Return the coding as plain values, for a checkpoint."""
        return asdict(self)

    @classmethod
    def restored(cls, state: Mapping[str, Any]) -> Self:
        """Return the coding that ``state`` describes."""
        return cls(**{name: tuple(value) for name, value in state.items()})


def fitted_targets(graphs: Sequence[Graph], kind: Kind | None) -> GraphTargets:
    """Return the coding of targets by the graphs of training tasks.

    Args:
        graphs: these graphs.
        kind: regression or classification; if None, numbers are regression, texts and booleans classification.

    Raises:
        SettingError: the kind does not fit to the targets.
        UserError: the targets are all the same.
    """
    numeric = all(isinstance(graph.target, list) or as_number(graph.target) is not None for graph in graphs)
    if kind == "classification" or (kind is None and not numeric):
        classes = sorted({class_target(graph) for graph in graphs})
        if len(classes) < 2:
            raise UserError(f"{graphs[0].name} and all other graphs of training tasks have one class, {classes[0]}")
        return GraphTargets(classes=tuple(classes))
    if not numeric:
        raise SettingError("kind", kind, "classification: there are targets that are no numbers")
    values = np.array(_stacked(graphs, len(number_target(graphs[0]))))
    scales = values.std(axis=0)
    if not (scales > 0).all():
        raise UserError(f"{graphs[0].name} and all other graphs of training tasks have the same target")
    return GraphTargets(tuple(values.mean(axis=0).tolist()), tuple(scales.tolist()))


def _stacked(graphs: Sequence[Graph], outputs: int) -> list[list[float]]:
    values = [number_target(graph) for graph in graphs]
    for graph, each in zip(graphs, values, strict=True):
        if len(each) != outputs:
            raise UserError(f"{graph.name}: the length of its target is {len(each)}, expected {outputs} as in training")
    return values
