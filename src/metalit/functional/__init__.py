"""Mathematics without Lightning."""

from metalit.functional.checkpointing import checkpointed
from metalit.functional.distances import class_means, squared_euclidean
from metalit.functional.losses import task_loss
from metalit.functional.parameters import ParameterTable, Params, matching, scope, select
from metalit.functional.precision import at_least_float32, full_precision, without_autocast
from metalit.functional.task_context import TaskContext, current_task
from metalit.functional.update_rules import SGD, UpdateRule

__all__ = [
    "SGD",
    "ParameterTable",
    "Params",
    "TaskContext",
    "UpdateRule",
    "at_least_float32",
    "checkpointed",
    "class_means",
    "current_task",
    "full_precision",
    "matching",
    "scope",
    "select",
    "squared_euclidean",
    "task_loss",
    "without_autocast",
]
