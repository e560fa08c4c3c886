"""The user's own graphs as tasks: molecules with their assays, circuits, anything with nodes and edges."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from metalit.data.class_splits import Shares
from metalit.data.columns import check_columns
from metalit.data.graphs.graph import Graph
from metalit.data.graphs.json_lines import OF_GRAPHS
from metalit.data.graphs.pyg_objects import read_pyg_objects
from metalit.data.graphs.ragged import from_arrays, ragged_arrays
from metalit.data.graphs.reading import check_lengths, has_target, read_graphs, with_edge_length
from metalit.data.graphs.targets import GraphTargets, Kind, fitted_targets
from metalit.data.graphs.task_division import divided
from metalit.data.stream import SPLITS, Integers, Split
from metalit.data.task_store import TaskStore
from metalit.data.task_tables.task_splits import TaskSplits
from metalit.data.tasks import TaskDataModule
from metalit.errors import SettingError, UserError, settings_of

TARGETS = "graph_targets"  # entry of a checkpoint


class TaskGraphs(TaskDataModule):
    """Tasks whose examples are graphs, each with a number or a class as its target.

    Targets of regression are standardised by the graphs of training tasks; errors are reported in the units of the
    file. The scale, and the classes, travel in the checkpoint.

    Args:
        file: JSON lines (``.jsonl``, ``.jsonl.gz``), one graph a line, in metalit's form or that of FS-Mol; PyTorch
            Geometric's ``Data`` objects (``.pt``); or a folder of such files, or with ``graphs.csv``, ``nodes.csv`` and
            ``edges.csv``.
        graphs: objects with the attributes of PyTorch Geometric's ``Data``, in place of files, from Python.
        kind: regression or classification; if not given, numbers are regression, texts and booleans classification.
        columns: entries, attributes or columns with unusual names, by their meaning: nodes, edges, edge_features,
            target, task, group, split or name.
        undirected: whether each edge stands for both directions, which is how files list the bonds of a molecule. In
            FS-Mol's form it always does.
        splits: how tasks are divided: ``given`` by the graphs' split; ``seed``; all to ``test``; lists by split, or a
            folder with ``train.txt``, ``val.txt`` and ``test.txt``; ``auto``: by the next options if one is given, else
            as given by the graphs, else by seed.
        shares: shares of training, validation and test tasks, for ``seed``.
        split_seed: seed of that division, independent of the episodes' ``seed``.
        split_sizes: ``[17, 7]``: tasks of at least 17 graphs are for training, of 7 to 16 for validation, smaller for
            the test.
        zero_shot_below: tasks with fewer graphs are the test tasks; the others are for training and validation.
        metrics: of a task, by their names in ``metalit.metrics.task_metrics``; if not given, ``mse``, ``rmse`` and
            ``pearson``, or ``accuracy``, with ``average_precision`` and ``delta_auprc`` if there are two classes.
        **settings: the settings of ``TaskDataModule``.

    Raises:
        SettingError: a setting is out of range, or there are no such files.
        UserError: a file cannot be used; the message names file and line.
    """

    sized = ("inputs", "edge_inputs", "outputs")

    def __init__(
        self,
        file: str | None = None,
        graphs: Sequence[Any] | None = None,
        kind: Kind | None = None,
        columns: dict[str, str] | None = None,
        undirected: bool = False,
        splits: str | dict[str, list[str]] = "auto",
        shares: Shares = (0.64, 0.16, 0.2),
        split_seed: int = 0,
        split_sizes: list[int] | None = None,
        zero_shot_below: int | None = None,
        metrics: Sequence[str] = (),
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        if (file is None) == (graphs is None):
            raise SettingError("file", file, "a file or folder of graphs; or graphs in place of it, from Python")
        self.file = None if file is None else Path(file).expanduser()
        self.graphs, self.kind, self.undirected = graphs, kind, undirected
        self.columns = check_columns(columns, OF_GRAPHS)
        self.given = splits == "given"
        self.division = TaskSplits(
            "auto" if self.given else splits, shares, split_seed, None, split_sizes, zero_shot_below
        )
        if self.given and not self.division.is_open():
            raise SettingError("splits", splits, "auto, with split_sizes or zero_shot_below, which are another rule")
        self.metrics = tuple(metrics)
        self.targets: GraphTargets | None = None
        self._is_provisional = False
        self._read: dict[Split, list[Graph]] = {}
        self._lengths = {"inputs": 0, "edge_inputs": 0}
        self._setting: dict[str, Any] = {}

    def sizes(self) -> dict[str, int]:
        """Return the lengths that a network must know: ``inputs``, ``edge_inputs`` and ``outputs``."""
        return {**self._found_lengths(), "outputs": self.found_targets().outputs}

    def found_targets(self) -> GraphTargets:
        """Return the coding of targets of the training, or else of these training tasks.

        Raises:
            UserError: there are no training tasks.
        """
        self.read()
        assert self.targets is not None
        if self._is_provisional:
            raise UserError(
                f"{self.source()} has no training tasks to take the scale or classes of targets from "
                f"({self._setting['task_split']}): test a checkpoint, whose are then used, or set data.splits to seed"
            )
        return self.targets

    def load(self, split: Split) -> TaskStore:
        """Return the graphs of a split, sorted by task.

        Raises:
            UserError: the split has no tasks.
        """
        graphs = self.read()[split]
        if not graphs:
            raise UserError(f"{self.source()} has no tasks in the {split} split ({self._setting['task_split']})")
        assert self.targets is not None
        names, sizes = np.unique([graph.task for graph in graphs], return_counts=True)
        arrays = ragged_arrays([graph[:3] for graph in graphs])
        return TaskStore(
            from_arrays(arrays),
            self.targets.coded(graphs),
            sizes.astype(np.int64),
            names.tolist(),
            group_numbers(graphs),
            [graph.name for graph in graphs],
        )

    def read(self) -> dict[Split, list[Graph]]:
        """Return the graphs of each split, sorted by task; the files are read at the first call.

        Raises:
            SettingError: there are no such files.
            UserError: one cannot be used.
        """
        if not self._read:
            with settings_of(type(self)):
                found = self._with_targets()
                check_lengths(found)
                features = next((graph for graph in found if len(graph.edges)), found[0]).edge_features.shape[1]
                self._lengths = {"inputs": found[0].nodes.shape[1], "edge_inputs": features}
                found = sorted((with_edge_length(graph, features) for graph in found), key=lambda graph: graph.task)
                self._read = self._divided(found)
        return self._read

    def source(self) -> str:
        """Return what messages call the data."""
        return "data.graphs" if self.file is None else str(self.file)

    def own_units(self, values: Tensor) -> Tensor:
        """Return targets or predictions ``[..., outputs]`` in the units of the file; logits are returned unchanged."""
        return values if self.targets is None else self.targets.own_units(values)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the coding of targets."""
        return {**super().state_dict(), TARGETS: self.found_targets().state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training, and the coding of targets."""
        self.take_over({type(self).__qualname__: state_dict})
        super().load_state_dict({name: value for name, value in state_dict.items() if name != TARGETS})

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Use the coding of targets of a training on these or other graphs."""
        super().take_over(checkpoint)
        states = [each[TARGETS] for each in checkpoint.values() if isinstance(each, dict) and TARGETS in each]
        if not states:
            return
        targets = GraphTargets.restored(states[0])
        self._is_provisional = False
        if targets == self.targets:
            return
        self.targets = targets
        for split in self.stores:
            self.stores[split] = self.load(split)
            self.streams[split].use_targets(self.stores[split])  # type: ignore[attr-defined]  # all are TaskStreams

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: the split, counts, and those of the base class."""
        return {**super().setting(), **self._setting}

    def _found_lengths(self) -> dict[str, int]:
        self.read()
        return self._lengths

    def _with_targets(self) -> list[Graph]:
        if self.file is not None:
            every = read_graphs(self.file, self.columns, self.undirected)
        else:
            every = list(read_pyg_objects(self.graphs, "data.graphs", "all", self.columns, self.undirected))
        found = [graph for graph in every if has_target(graph)]
        if not found:
            raise UserError(f"{self.source()} has no graph with a target; each needs one")
        left = len(every) - len(found)
        self._setting = {"graphs": len(found), "graphs_without_target_left_out": left}
        if left:
            rank_zero_info(f"Graphs: {left} left out, as they have no target")
        return found

    def _divided(self, graphs: list[Graph]) -> dict[Split, list[Graph]]:
        splits, rule = divided(graphs, self.division, self.given)
        self._setting["task_split"] = rule
        found: dict[Split, list[Graph]] = {name: [] for name in SPLITS}
        for graph, number in zip(graphs, splits.tolist(), strict=True):
            if number >= 0:
                found[SPLITS[number]].append(graph)
        if self.targets is None:
            # without training tasks a checkpoint must bring the coding; until then sizes are all that is needed
            self._is_provisional = not found["train"]
            self.targets = fitted_targets(found["train"] or graphs, self.kind)
        self.metrics = self.metrics or self.targets.metrics
        return found


def group_numbers(graphs: Sequence[Graph]) -> Integers | None:
    """Return the number of each graph's group, ``[n]``; a graph without one is on its own. None if none has one."""
    if all(graph.group is None for graph in graphs):
        return None
    numbers: dict[Any, int] = {}
    own = ((graph.group,) if graph.group is not None else place for place, graph in enumerate(graphs))
    return np.array([numbers.setdefault(each, len(numbers)) for each in own], dtype=np.int64)
