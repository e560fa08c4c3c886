"""What a run leaves and lives on: its folder, its checkpoints, and the states it goes on from."""

from metalit.runs.checkpoint_files import check_checkpoint, keep_old, resolve_checkpoint
from metalit.runs.checkpoints import RunCheckpoint
from metalit.runs.folder import check_writable, new_folder, writable_run_folder
from metalit.runs.random_states import RandomStates

__all__ = [
    "RandomStates",
    "RunCheckpoint",
    "check_checkpoint",
    "check_writable",
    "keep_old",
    "new_folder",
    "resolve_checkpoint",
    "writable_run_folder",
]
