"""An embedding with a linear head on top."""

from torch import Tensor, nn


class Classifier(nn.Module):
    """Logits over N ways: a linear head on any embedding.

    The parameters are named ``body.*`` and ``head.*``, so that a method can adapt one or the other.

    Args:
        body: the embedding, ``[n, ...]`` to ``[n, features]``.
        ways: N, outputs of the head; on the command line it follows ``data.ways``.
        features: length of the embedding; ``body.features`` if not given.

    Shape:
        ``[n, ...]`` to ``[n, N]``.

    Raises:
        ValueError: ``features`` is neither given nor an attribute of the body, or a number is below 1.
    """

    def __init__(self, body: nn.Module, ways: int = 5, features: int | None = None) -> None:
        super().__init__()
        features = getattr(body, "features", None) if features is None else features
        if not isinstance(features, int):
            raise ValueError(
                f"{type(body).__name__} does not say how long its embedding is: give Classifier(features=...)"
            )
        for name, value in (("ways", ways), ("features", features)):
            if value < 1:
                raise ValueError(f"{name} is {value}, but must be at least 1")
        self.body = body
        self.head = nn.Linear(features, ways)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits."""
        return self.head(self.body(x))  # type: ignore[no-any-return]
