"""Update rules of the inner loop: they map parameters and their gradient to the parameters after one inner step.

The rule of this room: an update rule sees gradients, and never the examples they come from.
"""

from metalit.update_rules.adam import Adam
from metalit.update_rules.base import SGD, UpdateRule
from metalit.update_rules.curvature import Curvature
from metalit.update_rules.lstm_rule import LSTMRule
from metalit.update_rules.per_layer_per_step_sgd import PerLayerPerStepSGD
from metalit.update_rules.per_parameter_sgd import PerParameterSGD, uniform_rates
from metalit.update_rules.residual_update import ResidualUpdate

__all__ = [
    "SGD",
    "Adam",
    "Curvature",
    "LSTMRule",
    "PerLayerPerStepSGD",
    "PerParameterSGD",
    "ResidualUpdate",
    "UpdateRule",
    "uniform_rates",
]
