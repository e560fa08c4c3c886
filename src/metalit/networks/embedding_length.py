"""The length of a network's embeddings: found out, and checked."""

from torch import Tensor, nn

from metalit.errors import SettingError, UserError, at_least


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


def check_embeddings(embeddings: Tensor, features: int, owner: type | None = None) -> None:
    """Check that embeddings ``[n, D]`` have the length that something behind them was built for.

    Args:
        embeddings: the output of a network.
        features: the length expected.
        owner: the class whose setting ``features`` is.

    Raises:
        SettingError: D is another; names both lengths.
    """
    # Without this, torch reports a mismatch of matrix shapes, which names no option.
    found = embeddings.shape[-1]
    if found != features:
        raise SettingError("features", features, f"{found}, the length of an embedding", owner=owner)
