"""Loading models of timm, if it is installed."""

import json
from importlib import import_module

import torch

from metalit.errors import SettingError
from metalit.networks.pretrained.loaded import Loaded
from metalit.networks.pretrained.preprocessing import Interpolation, PretrainedInput

TIMM = "timm/"
FILTERS: dict[str, Interpolation] = {"bilinear": "bilinear", "bicubic": "bicubic", "nearest": "nearest"}


def load_timm(name: str, revision: str | None, image_size: int | None) -> Loaded:
    """Return a model of timm's collection on the Hugging Face Hub, or in its cache on this machine.

    Args:
        name: ``timm/`` and the model's name, such as ``timm/vit_small_patch14_dinov2.lvd142m``.
        revision: commit, tag or branch on the Hub.
        image_size: height and width to which images are scaled; the model's own if not given.

    Raises:
        ImportError: timm is not installed; says how to install it without replacing torch.
        SettingError: there is no such model, or it has no safetensors file.
    """
    try:
        timm, hub = import_module("timm"), import_module("huggingface_hub")
    except (ImportError, RuntimeError) as error:  # a torchvision of another torch raises a RuntimeError
        raise ImportError(
            f"{name} needs timm ({error}); pip would replace torch by the newest to get torchvision, so hold it: "
            f"pip install timm torch=={torch.__version__} --extra-index-url https://download.pytorch.org/whl/cpu"
        ) from error
    short = name.removeprefix(TIMM)
    try:
        file = hub.hf_hub_download(name, "model.safetensors", revision=revision)
        overlay = {"file": file, "hf_hub_id": None, "url": ""}
        size = {} if image_size is None or "vit" not in short else {"img_size": image_size}
        model = timm.create_model(short, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **size)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingError("name_or_path", name, f"a model of timm with a safetensors file ({error})") from error
    config = timm.data.resolve_model_data_config(model)
    _, height, width = config["input_size"]
    sides, edge = (
        ((image_size, image_size), None) if image_size else ((height, width), int(height / config["crop_pct"]))
    )
    preprocessing = PretrainedInput(
        config["mean"], config["std"], sides, edge, FILTERS.get(config["interpolation"], "bilinear")
    )
    return Loaded(model, preprocessing, source=json.dumps(config, default=str, sort_keys=True))
