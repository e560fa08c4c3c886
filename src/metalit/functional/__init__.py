"""Mathematics without Lightning."""

from metalit.functional.distances import class_means, squared_euclidean
from metalit.functional.losses import task_loss
from metalit.functional.parameters import Params, matching, scope
from metalit.functional.precision import at_least_float32, full_precision, without_autocast
from metalit.functional.task_context import TaskContext
from metalit.functional.update_rules import SGD, UpdateRule

__all__ = [
    "SGD",
    "Params",
    "TaskContext",
    "UpdateRule",
    "at_least_float32",
    "class_means",
    "full_precision",
    "matching",
    "scope",
    "squared_euclidean",
    "task_loss",
    "without_autocast",
]
