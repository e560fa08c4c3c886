"""The folder of a run, and whether this process may write into it."""

from pathlib import Path

import lightning as L


def writable_run_folder(trainer: L.Trainer) -> Path | None:
    """Return the run folder (``default_root_dir``), made if need be; ``None`` if this process is not to write there.

    Rank zero alone writes, and nobody in a ``fast_dev_run``: a single batch must not stand in for a result.
    """
    if not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]  # set outside its class
        return None
    folder = Path(trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
