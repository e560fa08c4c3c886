"""The environment of a single task: PyTorch operations that are pure, seeded by a key and correct under ``vmap``.

The rule of this room: it knows one task and its network, and nothing of methods, data or Lightning.
"""

from metalit.tasks.checkpointing import checkpointed
from metalit.tasks.episodic_batch_norm import AccumulateStatistics, FixedStatistics
from metalit.tasks.parameters import ParameterTable, Params, matching, scope, select
from metalit.tasks.precision import at_least_float32, full_precision, without_autocast
from metalit.tasks.task_context import TaskContext, current_task, map_rows, normal_like, uniform_like

__all__ = [
    "AccumulateStatistics",
    "FixedStatistics",
    "ParameterTable",
    "Params",
    "TaskContext",
    "at_least_float32",
    "checkpointed",
    "current_task",
    "full_precision",
    "map_rows",
    "matching",
    "normal_like",
    "scope",
    "select",
    "uniform_like",
    "without_autocast",
]
