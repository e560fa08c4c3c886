"""Objectives: functions from the outcomes of all tasks to the meta-loss.

The rule of this room: an objective sees the outcomes of any method and, if it uses adaptation, one learned task.
"""

from metalit.objectives.base import LearnedTask, Measure, Objective, measure_nothing
from metalit.objectives.chaser_loss import ChaserLoss
from metalit.objectives.contrastive import ConML, ContrastiveAdaptation
from metalit.objectives.distance_likelihood import DistanceLikelihood
from metalit.objectives.gradient_penalty import GradientPenalty
from metalit.objectives.joint_loss import JointLoss
from metalit.objectives.multi_step_loss import MultiStepLoss
from metalit.objectives.query_loss import QueryLoss
from metalit.objectives.reptile_loss import ReptileLoss
from metalit.objectives.task_agnostic import MaxMinEntropy, TaskInequality

__all__ = [
    "ChaserLoss",
    "ConML",
    "ContrastiveAdaptation",
    "DistanceLikelihood",
    "GradientPenalty",
    "JointLoss",
    "LearnedTask",
    "MaxMinEntropy",
    "Measure",
    "MultiStepLoss",
    "Objective",
    "QueryLoss",
    "ReptileLoss",
    "TaskInequality",
    "measure_nothing",
]
