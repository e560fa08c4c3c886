"""Mathematics without Lightning."""

from metalit.functional.checkpointing import checkpointed
from metalit.functional.conjugate_gradient import conjugate_gradient
from metalit.functional.crammer_singer import crammer_singer
from metalit.functional.distances import class_means, class_sums, cosines, membership, squared_euclidean
from metalit.functional.episodic_batch_norm import AccumulateStatistics, FixedStatistics
from metalit.functional.losses import task_loss
from metalit.functional.parameters import ParameterTable, Params, matching, scope, select
from metalit.functional.precision import at_least_float32, full_precision, without_autocast
from metalit.functional.preprocessing import log_and_sign
from metalit.functional.ridge import ridge_regression
from metalit.functional.task_context import TaskContext, current_task, map_rows, normal_like, uniform_like
from metalit.functional.update_rules import SGD, Adam, Curvature, LSTMRule, PerParameterSGD, UpdateRule

__all__ = [
    "SGD",
    "AccumulateStatistics",
    "Adam",
    "Curvature",
    "FixedStatistics",
    "LSTMRule",
    "ParameterTable",
    "Params",
    "PerParameterSGD",
    "TaskContext",
    "UpdateRule",
    "at_least_float32",
    "checkpointed",
    "class_means",
    "class_sums",
    "conjugate_gradient",
    "cosines",
    "crammer_singer",
    "current_task",
    "full_precision",
    "log_and_sign",
    "map_rows",
    "matching",
    "membership",
    "normal_like",
    "ridge_regression",
    "scope",
    "select",
    "squared_euclidean",
    "task_loss",
    "uniform_like",
    "without_autocast",
]
