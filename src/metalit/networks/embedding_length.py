"""The length of a network's embeddings."""

from torch import nn

from metalit.errors import UserError, at_least


def embedding_length(network: nn.Module, given: int | None, name: str) -> int:
    """Return the length D of a network's embeddings ``[n, D]``: ``given``, or else its attribute ``features``.

    Args:
        network: the encoder.
        given: D, or None.
        name: name of the calling class, for the error message.

    Raises:
        UserError: D is neither given nor an attribute of the network, or it is below 1.
    """
    features = getattr(network, "features", None) if given is None else given
    if not isinstance(features, int):
        raise UserError(f"{type(network).__name__} does not say how long its embedding is: give {name}(features=...)")
    at_least(1, features=features)
    return features
