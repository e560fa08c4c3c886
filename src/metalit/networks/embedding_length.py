"""How long the embeddings of a network are."""

from torch import nn

from metalit.errors import UserError, at_least


def embedding_length(network: nn.Module, given: int | None, name: str) -> int:
    """Return D of a network's embeddings ``[n, D]``: as given, or its attribute ``features``.

    Args:
        network: the network.
        given: D, or None.
        name: of the class that asks, for the message.

    Raises:
        ValueError: D is neither given nor an attribute, or is below 1.
    """
    features = getattr(network, "features", None) if given is None else given
    if not isinstance(features, int):
        raise UserError(f"{type(network).__name__} does not say how long its embedding is: give {name}(features=...)")
    at_least(1, features=features)
    return features
