"""Embeddings of class texts, read from a file."""

from pathlib import Path

import torch
from torch import Tensor

from metalit.errors import UserError


def read_text_embeddings(path: str | None) -> Tensor | None:
    """Return the embeddings ``[classes, D]`` of a file, or None without one.

    Args:
        path: a file written by ``torch.save`` or ``numpy.save``, or in safetensors' format, that holds one matrix.

    Raises:
        UserError: there is no such file, or it holds anything else.
    """
    if path is None:
        return None
    file = Path(path).expanduser()
    if not file.is_file():
        raise UserError(f"model.text is {path}, but there is no such file: give one with a matrix [classes, D]")
    try:
        content = load(file)
    except Exception as error:
        raise UserError(f"model.text: {path} is not a file of tensors that can be read ({error})") from error
    if isinstance(content, dict) and len(content) == 1:
        (content,) = content.values()
    if not isinstance(content, Tensor) or content.dim() != 2:
        found = list(content.shape) if isinstance(content, Tensor) else type(content).__name__
        raise UserError(f"model.text: {path} holds {found}, but must hold one matrix [classes, D]")
    return content.float()


def load(file: Path) -> object:
    """Return the content of a file; reading never executes code."""
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(file)
    if file.suffix == ".npy":
        import numpy as np

        return torch.from_numpy(np.load(file, allow_pickle=False))
    return torch.load(file, map_location="cpu", weights_only=True)


def refuse_texts_of_drawn_classes(path: str | None) -> None:
    """Refuse class texts where episodes draw their classes: label k is another class in each.

    Args:
        path: the file of the texts, or None.

    Raises:
        UserError: there are texts.
    """
    if path is not None:
        raise UserError(
            f"model.text is {path}, the texts of a fixed list of classes, but each episode draws its classes: use "
            "texts with learner.adapt on a support set of these classes, and omit them here"
        )
