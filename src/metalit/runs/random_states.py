"""The states of all random generators, so that a resumed run draws what the uninterrupted one would have drawn."""

import random
from typing import Any

import lightning as L
import numpy as np
import torch

KEY = "random_states"  # in a checkpoint


class RandomStates(L.Callback):
    """Keeps the states of Python's, NumPy's and torch's generators in every checkpoint, each rank its own.

    metalit's own algorithms draw nothing from them once the first parameters are drawn: episodes and dropout are
    functions of a seed and the episode's number. This is for what users add, such as an augmentation. A rank that the
    run did not have before keeps the states it started with.
    """

    def __init__(self) -> None:
        self._restored: list[dict[str, Any]] = []

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Put the states of all ranks into the checkpoint."""
        states: list[Any] = [random_states()]
        if trainer.world_size > 1:
            states = states * trainer.world_size
            torch.distributed.all_gather_object(states, random_states())
        checkpoint[KEY] = states

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Take the states out of a checkpoint; there are none if another program wrote it."""
        self._restored = checkpoint.get(KEY, [])

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore this rank's states, now that nothing more is drawn in preparation."""
        if trainer.global_rank < len(self._restored):
            restore(self._restored[trainer.global_rank])
        self._restored = []


def random_states() -> dict[str, Any]:
    """Return the states of all generators of this process, made of nothing but tensors, numbers and text."""
    name, words, *position = np.random.get_state(legacy=True)  # noqa: NPY002  # what users draw from is what is to be kept
    return {
        "python": random.getstate(),
        "numpy": (str(name), torch.from_numpy(np.asarray(words).astype(np.int64)), *position),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore(states: dict[str, Any]) -> None:
    """Set the generators of this process to what ``random_states`` returned."""
    random.setstate(states["python"])
    name, words, *position = states["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), *position))  # noqa: NPY002
    torch.set_rng_state(states["torch"].cpu())
    if states["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"].cpu())
