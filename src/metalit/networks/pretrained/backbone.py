"""A backbone from any class of network and a file of weights."""

from collections.abc import Sequence
from inspect import signature
from pkgutil import resolve_name
from typing import Any, Literal

from torch import Tensor, nn

from metalit.errors import SettingError, UserError, check
from metalit.networks.pretrained.base import BackboneBatchNorm
from metalit.networks.pretrained.images import Pool, PretrainedImageNetwork, pooled
from metalit.networks.pretrained.preprocessing import Interpolation, PretrainedInput
from metalit.networks.pretrained.weights import checked_sha256, load_weights, weights_file

MEASURED = 64  # pixels of the image by which an embedding is measured, if images keep their own size


class Backbone(PretrainedImageNetwork):
    """Any network with a file of weights, as an encoder of images in [0, 1].

    Args:
        module: the network: an object with ``class_path``, or the import path of a class or a function that makes it
            from ``options``, such as ``efficientnet_lite_pytorch.EfficientNet.from_name``.
        options: arguments of that class or function, by name.
        weights: file of the weights, ``.safetensors`` or saved by torch; or ``package:path`` for one that an installed
            package brings. It is read without executing code. None keeps the weights that ``module`` has.
        sha256: checksum that the file must have.
        remove: dotted names of parts replaced by the identity, such as the classifier: ``["_fc"]``.
        mean: mean of each channel of the images that the weights were trained on, in [0, 1].
        std: their standard deviation.
        image_size: height and width to which images are scaled, in pixels; None leaves them as they are.
        interpolation: how they are scaled, with antialiasing.
        pool: what becomes of feature maps or tokens: ``mean``, the ``first`` token, or ``flatten``.
        trained: ``none``, ``all``, or N for the last N blocks and what follows them.
        blocks: dotted names of the blocks, or of the list of them, in order; if not given, the outermost list of
            modules.
        batch_norm: of trained parts: ``frozen`` keeps the running statistics of the file; ``running`` updates them.
        features: D, length of an embedding; measured on an image of zeros if not given.
        pretrained_on: what the weights were trained on, in words, for the results.

    Attributes:
        features: D, length of an embedding.

    Shape:
        ``[n, channels, height, width]`` to ``[n, D]``; grey images are repeated over the channels.

    Raises:
        SettingError: there is no such network, file or part, a checksum differs, or a number is out of range.
        UserError: the weights do not fit the network, or its outputs cannot be pooled.
    """

    def __init__(
        self,
        module: str | nn.Module,
        options: dict[str, Any] | None = None,
        weights: str | None = None,
        sha256: str | None = None,
        remove: Sequence[str] = (),
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        image_size: int | None = None,
        interpolation: Interpolation = "bilinear",
        pool: Pool = "mean",
        trained: int | Literal["none", "all"] = "none",
        blocks: Sequence[str] = (),
        batch_norm: BackboneBatchNorm = "frozen",
        features: int | None = None,
        pretrained_on: str | None = None,
    ) -> None:
        encoder = made(module, options or {}) if isinstance(module, str) else module
        for part in remove:
            replace_by_identity(encoder, part)
        check("sha256", sha256, sha256 is None or weights is not None, "no checksum without ``weights``")
        found = None
        if weights is not None:
            path = weights_file(weights)
            found = checked_sha256(path, sha256)
            load_weights(encoder, path, remove)
        size = None if image_size is None else (image_size, image_size)
        preprocessing = PretrainedInput(mean, std, size, interpolation=interpolation)
        super().__init__(encoder, preprocessing, trained, blocks, batch_norm, pretrained_on)
        self.name = module if isinstance(module, str) else f"{type(module).__module__}.{type(module).__qualname__}"
        self.options, self.weights, self.sha256 = options or {}, weights, found
        self.remove, self.pool = tuple(remove), pool
        known = getattr(encoder, "features", None) if features is None and not remove else features
        self.features = known if isinstance(known, int) else self.measure(size or (MEASURED, MEASURED))

    def encode(self, x: Tensor) -> Tensor:
        """Return embeddings ``[n, D]`` of preprocessed images."""
        return pooled(self.encoder(x), self.pool, self.name)

    def source(self) -> dict[str, Any]:
        """Return the network, its weights with their checksum, and the output taken from it."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        output = f"{self.pool} without {', '.join(self.remove)}" if self.remove else self.pool
        return {
            "backbone": f"{self.name}({options})",
            "backbone_weights": "as made" if self.weights is None else f"{self.weights} (sha256 {self.sha256})",
            "backbone_output": output,
        }


def made(path: str, options: dict[str, Any]) -> nn.Module:
    """Return the network that a class or function makes, given by its import path.

    Raises:
        SettingError: it cannot be imported, does not take the options, or makes something else.
    """
    try:
        make = resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingError("module", path, f"the import path of a class of networks; {error}: install it") from error
    try:
        signature(make).bind(**options)
    except TypeError as error:
        raise SettingError("options", options, f"arguments of {path}: {error}") from error
    try:
        network = make(**options)
    except UserError:
        raise
    except Exception as error:  # networks of other packages seldom check what they are given
        raise SettingError("options", options, f"other arguments of {path}: {type(error).__name__}, {error}") from error
    if not isinstance(network, nn.Module):
        raise SettingError("module", path, f"something that makes a torch.nn.Module, not a {type(network).__name__}")
    return network


def replace_by_identity(network: nn.Module, part: str) -> None:
    """Replace a part of a network, given by its dotted name, by one that returns its input."""
    parts = dict(network.named_modules())
    if part not in parts or not part:
        known = ", ".join(name for name in parts if name and "." not in name)
        raise SettingError("remove", part, f"names of parts of {type(network).__name__}, such as {known}")
    parent, _, name = part.rpartition(".")
    setattr(parts[parent], name, nn.Identity())
