"""An encoder with a linear head, for targets of any number."""

from typing import Any

from torch import Tensor, nn

from metalit.errors import at_least
from metalit.networks.embedding_length import check_embeddings, embedding_length
from metalit.networks.expected_inputs import known


class LinearHead(nn.Module):
    """An encoder of any kind with a linear head, for data that say how many outputs there are: tables, graphs.

    The parameters are named ``body.*`` and ``head.*``, so that a method can adapt one part alone. For data with
    ``ways``, ``Classifier`` is the same.

    Args:
        body: the encoder, ``[n, ...]`` to ``[n, features]``.
        outputs: numbers of regression, or classes, >= 1. If not given: on the command line and in ``metalit.load``
            those of the data, else 1.
        features: length of an embedding; ``body.features`` if not given.

    Shape:
        ``[n, ...]`` to ``[n, outputs]``.

    Raises:
        UserError: ``features`` is neither given nor an attribute of the body, a number is below 1, or embeddings have
            another length.
    """

    def __init__(self, body: nn.Module, outputs: int | None = None, features: int | None = None) -> None:
        super().__init__()
        features = embedding_length(body, features, "LinearHead")
        at_least(1, outputs=outputs)
        self.body = body
        self.head = nn.Linear(features, known(outputs))

    def forward(self, x: Any) -> Tensor:
        """Return the outputs ``[n, outputs]``."""
        embeddings = self.body(x)
        check_embeddings(embeddings, self.head.in_features, type(self))
        return self.head(embeddings)  # type: ignore[no-any-return]
