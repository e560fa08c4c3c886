"""Distances between embeddings."""

from torch import Tensor

from metalit.functional.precision import full_precision


@full_precision
def squared_euclidean(a: Tensor, b: Tensor) -> Tensor:
    """Return squared Euclidean distances, summed (not averaged) over dimensions.

    Args:
        a: ``[n, D]``.
        b: ``[m, D]``.

    Returns:
        ``[n, m]``, ||a_i - b_j||^2.
    """
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(dim=-1)


@full_precision
def class_means(x: Tensor, y: Tensor, ways: int) -> Tensor:
    """Return the mean of the examples of each class.

    Args:
        x: ``[n, D]`` embeddings.
        y: ``[n]`` int64 labels in 0..ways-1, each at least once.
        ways: N.

    Returns:
        ``[N, D]``.
    """
    members = (y.unsqueeze(0) == y.new_tensor(range(ways)).unsqueeze(1)).to(x.dtype)
    return members @ x / members.sum(dim=1, keepdim=True)
