"""FS-Mol (Stanley et al. 2021): assays of small molecules as tasks, active or inactive, or how active."""

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from metalit.data.cache import Arrays, cached_arrays, fingerprint
from metalit.data.graphs.ragged import RaggedGraphs
from metalit.data.module import SPLITS_OF_FUNCTION
from metalit.data.molecules.contents import Content, Descriptors, Fingerprints, MolecularGraphs
from metalit.data.molecules.lines import SUFFIX, lines
from metalit.data.molecules.room import Flags, Room
from metalit.data.molecules.scaling import SCALING, Scaling, from_checkpoint, scaling_of
from metalit.data.molecules.sparse_counts import ChosenExamples
from metalit.data.molecules.task_files import task_files
from metalit.data.stream import SPLITS, Split
from metalit.data.task_store import TaskStore
from metalit.data.tasks import TaskDataModule
from metalit.errors import SettingError, UserError, check

VERSION = "fs_mol, 1"  # of the processing; a new one invalidates older caches
CONTENTS: dict[str, type[Content]] = {
    "fingerprints": Fingerprints,
    "descriptors": Descriptors,
    "graph": MolecularGraphs,
}
ACTIVITY, VALUES = "activity", ("value", "log_value")

log = logging.getLogger(__name__)


class FSMol(TaskDataModule):
    """FS-Mol: each task is an assay, each example a molecule, the label whether it is active.

    ``root`` holds the folders ``train``, ``valid`` and ``test`` with a file ``<assay>.jsonl.gz`` for each task, as
    the archive of the authors does, and their list of tasks. What is read is cached in ``root/metalit-cache``.

    Fingerprints are counts of 2048 substructures. Descriptors are standardised by the training tasks' molecules and
    limited to 10 standard deviations; missing ones become 0. The test has all remaining molecules of a task as its
    query set, and each task comes in ten divisions.

    Args:
        root: the folder.
        inputs: what a network sees of a molecule: ``fingerprints`` ``[n, 2048]``, ``descriptors`` ``[n, D]``, or its
            ``graph``: ``Graphs`` of atoms with 32 features and of bonds, in both directions, with 3 kinds.
        target: ``activity``, of two classes; or for regression ``value`` or ``log_value``, the measured one as the
            files have it. Molecules without a value are left out of regression.
        task_list: file with the tasks of each split, beside the folders or anywhere; None takes every file.
        small_tasks: refuse validation and test tasks that cannot be divided, or leave them out. A task needs
            ``shots + 2`` molecules, two of each class; in regression ``shots + 1``. Training tasks that cannot be
            divided are left out, as in the authors' code.
        shots: molecules in a support set.
        stratified: give the support the same share of active molecules as the task, up to rounding.
        test_draws: divisions of each test task.
        **tasks: the other settings of ``TaskDataModule``.

    Raises:
        SettingError: there are no such files, no list, or a task is too small.
        UserError: a file or line cannot be read.
    """

    sized = ("inputs", "edge_inputs", "outputs")

    def __init__(
        self,
        root: str = "data/fs_mol",
        inputs: Literal["fingerprints", "descriptors", "graph"] = "fingerprints",
        target: Literal["activity", "value", "log_value"] = "activity",
        task_list: str | None = "fsmol-0.1.json",
        small_tasks: Literal["error", "skip"] = "error",
        shots: int = 16,
        stratified: bool = True,
        test_draws: int = 10,
        **tasks: Any,
    ) -> None:
        super().__init__(shots=shots, stratified=stratified, test_draws=test_draws, **tasks)
        check("inputs", inputs, inputs in CONTENTS, f"one of {', '.join(CONTENTS)}")
        check("target", target, target in (ACTIVITY, *VALUES), f"one of {', '.join((ACTIVITY, *VALUES))}")
        check("small_tasks", small_tasks, small_tasks in ("error", "skip"), "one of error, skip")
        self.root, self.inputs, self.target = Path(root).expanduser(), inputs, target
        self.task_list, self.small_tasks = task_list, small_tasks
        of_values = ("rmse", "pearson", "spearman")
        self.metrics = ("delta_auprc", "average_precision", "accuracy") if target == ACTIVITY else of_values
        self.skipped: dict[Split, list[str]] = {}
        self._arrays: dict[Split, Arrays] = {}
        self._scaling: Scaling | None = None

    def prepare_data(self) -> None:
        """Read the files of the splits that are needed in one process per machine, before the others start."""
        stage = None if self.trainer is None else self.trainer.state.fn
        for split in SPLITS if stage is None else SPLITS_OF_FUNCTION[stage.value]:
            self.arrays(split)

    def arrays(self, split: Split) -> Arrays:
        """Return ``sizes`` and ``names`` of the tasks of a split, targets and inputs of their molecules; cached."""
        if split not in self._arrays:
            files = task_files(self.root, split, self.task_list)
            cache = self.root / "metalit-cache" / f"fs_mol-{split}-{self.inputs}.npz"
            state = fingerprint(VERSION, self.root, files)
            self._arrays[split] = cached_arrays(cache, state, partial(self._read, files, split))
        return self._arrays[split]

    def _read(self, files: list[Path], split: Split) -> Arrays:
        content = CONTENTS[self.inputs]()
        sizes: list[int] = []
        active: list[bool] = []
        values: list[tuple[float, float]] = []
        for path in tqdm(files, desc=f"FS-Mol {split}", unit="task", disable=None):
            before = len(active)
            for line in lines(path):
                active.append(line.label())
                values.append((line.value("RegressionProperty"), line.value("LogRegressionProperty")))
                content.add(line)
            sizes.append(len(active) - before)
        return {
            "sizes": np.array(sizes, dtype=np.int64),
            "names": np.array([path.name.removesuffix(SUFFIX) for path in files], dtype=np.str_),
            "active": np.array(active, dtype=np.int64),
            "values": np.array(values, dtype=np.float64).reshape(-1, len(VALUES)),
            **content.arrays(),
        }

    def load(self, split: Split) -> TaskStore:
        """Return the molecules of a split, sorted by task, without tasks that have no room for a division."""
        arrays = self.arrays(split)
        items, names = CONTENTS[self.inputs].items(arrays), arrays["names"].tolist()
        if self.target == ACTIVITY:
            targets = torch.from_numpy(arrays["active"])
            measured = np.ones(len(targets), dtype=bool)
        else:
            values = arrays["values"][:, [VALUES.index(self.target)]]
            targets, measured = torch.from_numpy(values), np.isfinite(values[:, 0])
        slots = np.repeat(np.arange(len(names)), arrays["sizes"])
        usable = self._with_room(split, np.bincount(slots[measured], minlength=len(names)), arrays, names)
        kept = measured & usable[slots]
        if kept.all():
            return TaskStore(items, targets, arrays["sizes"], names)
        rows = torch.from_numpy(np.flatnonzero(kept))
        sizes = np.bincount(slots[kept], minlength=len(names))[usable]
        left = [name for name, use in zip(names, usable.tolist(), strict=True) if use]
        return TaskStore(ChosenExamples(items, rows), targets[rows], sizes, left)

    def sizes(self) -> dict[str, int]:
        """Return the lengths of inputs and outputs of a network: of atoms and bonds, if it sees graphs."""
        if not self.stores:
            split: Split = next(iter(self._arrays), "test")
            self.streams[split] = self.checked_stream(split)
        items = next(iter(self.stores.values())).items
        whole = items.examples if isinstance(items, ChosenExamples) else items
        outputs = {"outputs": 2 if self.target == ACTIVITY else 1}
        if isinstance(whole, RaggedGraphs):
            return {"inputs": whole.node_length, "edge_inputs": whole.edge_length, **outputs}
        return {"inputs": whole.shape[1], **outputs}

    def _with_room(self, split: Split, sizes: np.ndarray[Any, Any], arrays: Arrays, names: list[str]) -> Flags:
        """Return which tasks can be divided; refuse others in an evaluation, and if there is no other."""
        train = split == "train"
        starts = np.cumsum(arrays["sizes"]) - arrays["sizes"]
        active = np.add.reduceat(arrays["active"], starts) if self.target == ACTIVITY else None
        room = Room(names, sizes, active, self.train_shots if train else self.shots)
        usable = room.usable()
        if not usable.any() or (not train and self.small_tasks == "error"):
            room.refuse("data.train_shots" if train and self.train_shots != self.shots else "data.shots")
        bad = np.flatnonzero(~usable).tolist()
        self.skipped[split] = [names[task] for task in bad]
        if bad:
            first = room.described(bad[0])
            log.info("FS-Mol: %d of %d %s tasks are left out as too small: %s", len(bad), len(names), split, first)
        return usable

    def scaling(self) -> Scaling:
        """Return how descriptors are standardised: as in the training of a checkpoint, or by the training tasks.

        Raises:
            UserError: there are no training tasks.
        """
        if self._scaling is None:
            try:
                files = task_files(self.root, "train", self.task_list)
            except SettingError as error:
                raise UserError(
                    "descriptors are standardised by the training tasks: put them there, or test a checkpoint, which "
                    f"holds the scaling ({error})"
                ) from error
            cache = self.root / "metalit-cache" / "fs_mol-scaling.npz"
            state = fingerprint(VERSION, self.root, files)
            made = cached_arrays(cache, state, lambda: scaling_of(self.arrays("train")["descriptors"]))
            self._scaling = Scaling(torch.from_numpy(made["mean"]), torch.from_numpy(made["std"]))
        return self._scaling

    def expanded(self, x: Any) -> Any:
        """Return inputs as a network sees them: descriptors standardised."""
        if self.inputs == "descriptors" and isinstance(x, Tensor):
            return self.scaling().applied(x)
        return super().expanded(x)

    def state_dict(self) -> dict[str, Any]:
        """Return the position of training in its stream, and the scaling of descriptors."""
        return {**super().state_dict(), **({} if self._scaling is None else {SCALING: tuple(self._scaling)})}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the position if training, and the scaling."""
        self.take_over({type(self).__qualname__: state_dict})
        super().load_state_dict({name: value for name, value in state_dict.items() if name != SCALING})

    def take_over(self, checkpoint: Mapping[str, Any]) -> None:
        """Use the scaling of descriptors of a training on these or other data."""
        super().take_over(checkpoint)
        if self.inputs == "descriptors":
            self._scaling = from_checkpoint(checkpoint) or self._scaling

    def setting(self) -> dict[str, Any]:
        """Return the settings to state with a test result: inputs, target, list and skipped tasks."""
        return {
            **super().setting(),
            "inputs": self.inputs,
            "target": self.target,
            "task_list": self.task_list,
            "small_tasks_left_out": {split: names for split, names in self.skipped.items() if names},
        }
