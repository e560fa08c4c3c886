"""Loading vision models by transformers, with the preprocessing that their files ask for."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from metalit.errors import SettingError
from metalit.networks.pretrained.loaded import Loaded
from metalit.networks.pretrained.preprocessing import Interpolation, PretrainedInput

# Pillow's numbers of its filters; Lanczos, which torch does not have, is nearest to the cubic one
FILTERS: dict[int, Interpolation] = {0: "nearest", 1: "bicubic", 2: "bilinear", 3: "bicubic"}
CLASS_TOKENS = ("cls_token", "class_embedding", "class_token")
INSTALL = "pip install 'metalit[vision]'"
FILES = "config.json, preprocessor_config.json and model.safetensors"


def load_transformers(name: str, revision: str | None, image_size: int | None) -> Loaded:
    """Return a model of the Hub, of its cache on this machine, or of a folder.

    Raises:
        ImportError: transformers is not installed.
        SettingError: there is no such model, or its file lacks weights or is no safetensors file.
    """
    try:
        transformers = import_module("transformers")
    except ImportError as error:
        raise ImportError(f"networks.Pretrained needs transformers, which is not installed: {INSTALL}") from error
    where = existing(name)
    # no code of the Hub, and no pickles: neither may be executed by naming a model
    options: dict[str, Any] = {"revision": revision or "main", "trust_remote_code": False}
    with one_message(name), quiet():
        processor = transformers.AutoImageProcessor.from_pretrained(where, **options).to_dict()
        model, found = transformers.AutoModel.from_pretrained(
            where, use_safetensors=True, output_loading_info=True, **options
        )
    missing = sorted(key for key in found["missing_keys"] if not is_of_pooler(key))
    if missing:
        expected = f"a model with all weights; its file lacks {missing[0]}, and {len(missing)} in all"
        raise SettingError("name_or_path", name, expected)
    config = model.config.to_dict()
    model = model if "vision_config" not in config else ImageTower(model)
    preprocessing = preprocessing_of(processor, image_size)
    names = {key.rpartition(".")[2] for key, _ in model.named_parameters()}
    return Loaded(
        model,
        preprocessing,
        source=json.dumps(config, sort_keys=True, default=str),
        arguments=arguments(model, config.get("vision_config", config), preprocessing),
        has_pooled=not any(is_of_pooler(key) for key in found["missing_keys"]),
        has_class_token=not names.isdisjoint(CLASS_TOKENS),
    )


class ImageTower(nn.Module):
    """The image half of a model of images and texts, such as CLIP; embeddings are in the space that both share."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        for name, _ in list(model.named_children()):
            if name.startswith("text"):
                setattr(model, name, nn.Identity())
        self.model = model

    def forward(self, pixel_values: Tensor, **options: Any) -> Any:
        """Return the model's output for preprocessed images; its pooled part is the projected embedding."""
        return self.model.get_image_features(pixel_values, **options)


def existing(name: str) -> str:
    """Return a folder's path, or the name of a model of the Hub.

    Raises:
        SettingError: a path that leads nowhere, or a folder without a model in safetensors form.
    """
    path = Path(name).expanduser()
    if not path.is_dir():
        if name.startswith(("/", ".", "~")):
            raise SettingError("name_or_path", name, "a folder with config.json and model.safetensors; there is none")
        return name
    if not any(path.glob("*.safetensors")):
        raise SettingError("name_or_path", name, "a folder with weights as safetensors; other files could execute code")
    return str(path)


@contextmanager
def one_message(name: str, files: str = FILES) -> Iterator[None]:
    """Turn the errors of transformers into one that says what to do.

    Args:
        name: the model's.
        files: what a folder of it holds, in words.
    """
    try:
        yield
    except (OSError, ValueError, RuntimeError, import_module("safetensors").SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise SettingError(
            "name_or_path",
            name,
            f"a folder with {files}, or a model of the Hugging Face Hub; transformers says: {reason:.300} - without a "
            f"network, fetch it elsewhere by `hf download {name} --local-dir FOLDER` and give that folder",
        ) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' table of missing weights, which is judged here instead, and its progress bars."""
    logging = import_module("transformers.utils.logging")
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def is_of_pooler(key: str) -> bool:
    """Whether a weight is one of a pooling layer, which files saved with a classifier lack."""
    return "pooler" in key.split(".")


def arguments(model: nn.Module, config: Mapping[str, Any], preprocessing: PretrainedInput) -> dict[str, Any]:
    """Return the arguments of a call: position codes are interpolated for images of another size than the model's."""
    sides = config.get("image_size")
    known = (sides, sides) if isinstance(sides, int) else tuple(sides or ())
    takes = signature(model.forward).parameters
    flexible = "interpolate_pos_encoding" in takes or isinstance(model, ImageTower)
    differs = bool(known) and known != preprocessing.image_size
    return {"interpolate_pos_encoding": True} if flexible and differs else {}


def preprocessing_of(processor: Mapping[str, Any], image_size: int | None) -> PretrainedInput:
    """Return the preprocessing that a model's image processor describes.

    Args:
        processor: the processor's settings.
        image_size: height and width to which images are scaled; the processor's own if not given.
    """
    normalise = processor.get("do_normalize", True)
    mean, std = (processor["image_mean"], processor["image_std"]) if normalise else ([0.0] * 3, [1.0] * 3)
    # the processor starts from 0..255 and takes scale * x - offset before it normalises; ours starts from 0..1
    scale = 255 * processor.get("rescale_factor", 1 / 255) if processor.get("do_rescale", True) else 255.0
    offset = 1.0 if processor.get("rescale_offset") else 0.0
    size, edge = sizes(processor) if image_size is None else ((image_size, image_size), None)
    return PretrainedInput(
        [(value + offset) / scale for value in mean],
        [value / scale for value in std],
        size,
        edge,
        FILTERS.get(processor.get("resample", 2), "bilinear"),
    )


def sizes(processor: Mapping[str, Any]) -> tuple[tuple[int, int], int | None]:
    """Return (height, width) of what the model sees, and the length of the shorter side before the cut, or None."""
    size, crop = processor.get("size") or {}, processor.get("crop_size") or {}
    whole = tuple(size[side] for side in ("height", "width") if side in size)
    edge = size.get("shortest_edge", min(whole, default=None))
    if edge is None:
        raise SettingError("image_size", None, f"height and width in pixels; the model's own are {dict(size)}")
    if processor.get("do_center_crop") and crop:
        return (crop["height"], crop["width"]), edge
    if len(whole) == 2:
        return (whole[0], whole[1]), None
    # ConvNext's rule: small models see the centre of a slightly larger image, those of 384 pixels the whole of it
    share = processor.get("crop_pct")
    if share is not None and edge >= 384:
        return (edge, edge), None
    return (edge, edge), edge if share is None else int(edge / share)
