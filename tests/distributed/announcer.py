"""A callback that says which process is which rank, once training goes on."""

import os
import threading
from pathlib import Path
from typing import Any

import lightning as L


class Announcer(L.Callback):
    """Writes a file ``rank0``, ``rank1``, ... with the process's number into a folder, after three steps.

    Args:
        folder: where.
        hangs: a rank that then waits for ever, as one does whose partner on another GPU has died.
    """

    def __init__(self, folder: str, hangs: int | None = None) -> None:
        self.folder, self.hangs = Path(folder), hangs

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        """Announce this rank."""
        if trainer.global_step == 3:
            unfinished = self.folder / f".rank{trainer.global_rank}"
            unfinished.write_text(str(os.getpid()))
            unfinished.rename(self.folder / f"rank{trainer.global_rank}")
            if trainer.global_rank == self.hangs:
                threading.Event().wait()
