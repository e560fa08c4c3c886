"""A network as a training left it, of which nothing is trained any more."""

from pathlib import Path
from typing import Any

from torch import nn

from metalit.errors import check
from metalit.networks.adapters.base import AdaptedNetwork
from metalit.networks.partly_trained import settings_of_parts
from metalit.networks.pretrained.weights import CHECKPOINT, checked_sha256, load_trained, read_file, weights_file
from metalit.networks.texts.base import text_encoders
from metalit.networks.texts.tokenizer_files import states_in


class Frozen(AdaptedNetwork):
    """A network with the weights of a finished run, which nothing changes any more.

    As ``data.features`` it embeds all examples once, so that any method runs on the embeddings of another's training:
    ridge regression or LaplacianShot on the network of prototypical networks, or many episodes on a large encoder.

    Args:
        network: the network as it was trained, with its adapters.
        weights: a checkpoint of the run, such as ``RUN/checkpoints/best.ckpt``, of which the learner's ``network`` is
            taken; or a file of the network's own tensors. It is read without executing code. None keeps the weights
            that ``network`` has.
        sha256: checksum that the file must have.

    Attributes:
        features: D, length of an embedding; None if the network does not say it.

    Shape:
        that of the network.

    Texts must then have the tokens of that run. A vocabulary of words is fitted to the training classes, so ``Words``
    on other data, or another division of them, is refused; ``HashedWords`` has none.

    Raises:
        SettingError: there is no such file, its checksum differs, or the weights are quantised.
        UserError: the weights do not fit the network.
    """

    def __init__(self, network: nn.Module, weights: str | None = None, sha256: str | None = None) -> None:
        check("sha256", sha256, sha256 is None or weights is not None, "no checksum without ``weights``")
        found = None
        if weights is not None:
            path = weights_file(weights)
            found = checked_sha256(path, sha256)
            load_trained(network, path)
            know_tokenizer(network, path)
        # before freezing, so that it says how many parameters the training has trained
        trained_setting = settings_of_parts(network.modules())
        super().__init__(network, trained=())
        self.weights, self.sha256 = weights, found
        self._trained_setting = trained_setting

    def setting(self) -> dict[str, Any]:
        """Return the settings of the network and its parts, as they were trained, and the file with its checksum."""
        weights = "as made" if self.weights is None else f"{self.weights} (sha256 {self.sha256})"
        return {**self._trained_setting, "frozen_network": type(self.network).__name__, "frozen_weights": weights}


def know_tokenizer(network: nn.Module, path: Path) -> None:
    """Note in encoders that take the ids of any tokenizer that of the run whose checkpoint they have."""
    encoders = [encoder for encoder in text_encoders(network) if encoder.tokenizer_digest is None]
    if not encoders or path.suffix != CHECKPOINT:
        return
    for state in states_in(read_file(path)):
        for encoder in encoders:
            encoder.tokenizer_digest = state["digest"]
            encoder.tokenizer = f"that of {path}, {state['kind']} with the vocabulary of its training classes"
