"""The loss of a task's predictions."""

import torch.nn.functional as F
from torch import Tensor

from metalit.errors import UserError
from metalit.tasks.precision import full_precision


@full_precision
def task_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Return the mean loss over a task's examples: cross-entropy for class labels, squared error for floats.

    Args:
        predictions: ``[n, N]`` logits, or ``[n, outputs]`` values.
        targets: ``[n]`` int64 class labels, or ``[n, outputs]`` floats.

    Returns:
        0-d loss, in nats (classification) or squared units of ``targets`` (regression).

    Raises:
        UserError: regression targets and predictions differ in shape.
    """
    # the targets' dtype alone decides between regression and classification
    if targets.is_floating_point():
        check_targets(predictions, targets)
        return F.mse_loss(predictions, targets)
    return F.cross_entropy(predictions, targets)


def check_targets(predictions: Tensor, targets: Tensor) -> None:
    """Raise an error if regression targets and predictions differ in shape.

    Raises:
        UserError: the shapes differ.
    """
    # torch would broadcast [n] against [n, 1] to [n, n] and average over all pairs
    if predictions.shape != targets.shape:
        raise UserError(
            f"the targets have shape {list(targets.shape)}, but the predictions {list(predictions.shape)}: give both "
            "as [examples, outputs], with an axis of length 1 for a single number"
        )
