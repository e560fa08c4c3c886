"""States of the global random generators: a resumed run draws the same numbers as an uninterrupted one."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch

from metalit.ranks import gather_objects

KEY = "random_states"  # key in a checkpoint


class RandomStates(L.Callback):
    """Stores the states of the Python, NumPy and torch generators of each rank in every checkpoint.

    metalit's own algorithms draw nothing from these generators after the parameters are initialised: episodes and
    dropout are functions of a seed and the episode index. The states are kept for users' own code, such as an
    augmentation. If a run is resumed on more ranks, the additional ones keep the states they started with.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Store the states of all ranks in the checkpoint."""
        # gathered, because rank zero alone writes the file
        checkpoint[KEY] = gather_objects(random_states())

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Read the states from a checkpoint; one written by another program has none."""
        self._restored = checkpoint.get(KEY, [])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore this rank's states; set-up, which may draw random numbers itself, is over."""
        if trainer.global_rank < len(self._restored):
            restore(self._restored[trainer.global_rank])
        self._restored = []


def random_states() -> dict[str, Any]:
    """Return the states of this process's generators as tensors, numbers and text only."""
    # nothing else, because checkpoints are read with weights_only=True; a NumPy array would be refused
    name, words, *position = np.random.get_state(legacy=True)  # noqa: NPY002  # users draw from the legacy generator
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(words).astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore(states: dict[str, Any]) -> None:
    """Set the generators of this process to states from ``random_states``."""
    random.setstate(states["python"])
    name, words, *position = states["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
