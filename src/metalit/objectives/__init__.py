"""How per-task results become one meta-loss."""

from metalit.objectives.base import LearnedTask, Objective
from metalit.objectives.query_loss import QueryLoss

__all__ = ["LearnedTask", "Objective", "QueryLoss"]
