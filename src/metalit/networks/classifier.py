"""An encoder with a linear head."""

from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.embedding_length import check_embeddings, embedding_length


class Classifier(nn.Module):
    """An encoder of any kind with a linear head that returns logits over N ways.

    The parameters are named ``body.*`` and ``head.*``, so that a method can adapt one part alone.

    Args:
        body: the encoder, ``[n, ...]`` to ``[n, features]``.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.
        features: length of an embedding; ``body.features`` if not given.

    Shape:
        ``[n, ...]`` to ``[n, N]``.

    Raises:
        UserError: ``features`` is neither given nor an attribute of the body, a number is below 1, or embeddings have
            another length.
    """

    def __init__(self, body: nn.Module, ways: int = 5, features: int | None = None) -> None:
        super().__init__()
        features = embedding_length(body, features, "Classifier")
        at_least(1, ways=ways)
        self.body = body
        self.head = nn.Linear(features, ways)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``[n, N]``."""
        embeddings = self.body(x)
        check_embeddings(embeddings, self.head.in_features, type(self))
        return self.head(embeddings)  # type: ignore[no-any-return]
