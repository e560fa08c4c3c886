"""What all encoders of texts have in common."""

from torch import nn


class TextEncoder:
    """An encoder from tokens ``[n, T]`` to embeddings ``[n, features]``, which padding does not change.

    Attributes:
        features: length of an embedding.
        vocabulary: number of token ids.
        max_length: most tokens of a text; None if there is no limit.
        tokenizer_digest: what tells the only tokenizer whose ids it takes from others; None if it takes any.
        tokenizer: that tokenizer as a config has it, for messages.
    """

    features: int
    vocabulary: int
    max_length: int | None = None
    tokenizer_digest: str | None = None
    tokenizer: str = ""


def text_encoders(network: nn.Module) -> list[TextEncoder]:
    """Return the encoders of texts in a network."""
    return [module for module in network.modules() if isinstance(module, TextEncoder)]
