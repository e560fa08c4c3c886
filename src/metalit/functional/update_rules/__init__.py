"""Update rules of the inner loop, as values: how one step turns parameters and their gradient into new parameters."""

from metalit.functional.update_rules.adam import Adam
from metalit.functional.update_rules.base import SGD, UpdateRule
from metalit.functional.update_rules.curvature import Curvature
from metalit.functional.update_rules.lstm_rule import LSTMRule
from metalit.functional.update_rules.per_layer_per_step_sgd import PerLayerPerStepSGD
from metalit.functional.update_rules.per_parameter_sgd import PerParameterSGD, uniform_rates
from metalit.functional.update_rules.residual_update import ResidualUpdate

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
