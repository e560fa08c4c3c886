"""What a run leaves and lives on: its folder and its checkpoints."""

from metalit.runs.checkpoints import RunCheckpoint, check_checkpoint, keep_old, resolve_checkpoint
from metalit.runs.folder import check_writable, new_folder, writable_run_folder

__all__ = [
    "RunCheckpoint",
    "check_checkpoint",
    "check_writable",
    "keep_old",
    "new_folder",
    "resolve_checkpoint",
    "writable_run_folder",
]
