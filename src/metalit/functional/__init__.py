"""Mathematics without state: tensors in, tensors out.

The rule of this room: no module, no setting, no randomness of its own; ``Augmentation`` is a value that data and
methods share.
"""

from metalit.functional.augmentation import Augmentation, augment
from metalit.functional.conjugate_gradient import conjugate_gradient
from metalit.functional.crammer_singer import crammer_singer
from metalit.functional.distances import class_means, class_sums, cosines, membership, squared_euclidean
from metalit.functional.losses import task_loss
from metalit.functional.preprocessing import log_and_sign
from metalit.functional.ridge import ridge_regression

__all__ = [
    "Augmentation",
    "augment",
    "class_means",
    "class_sums",
    "conjugate_gradient",
    "cosines",
    "crammer_singer",
    "log_and_sign",
    "membership",
    "ridge_regression",
    "squared_euclidean",
    "task_loss",
]
