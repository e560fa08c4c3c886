"""The user's examples as the learner takes them: paths, pictures, arrays of images, feature vectors, or texts."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from metalit.data.columns import shown
from metalit.data.images.picture_form import PictureForm
from metalit.data.texts import TextForm
from metalit.episode import MarkedTokens, Tokens
from metalit.errors import UserError

Progress = Callable[[Sequence[Any]], Iterable[Any]]  # a progress bar around a loop
ExampleForm = PictureForm | TextForm


def is_numeric(x: Any) -> bool:
    """Whether the examples are one array of numbers, as scikit-learn takes them, and not paths, pictures or texts."""
    if isinstance(x, Tensor):
        return True
    # a list is looked at itself: NumPy would turn pictures into their pixels
    first = next(iter(x), None) if isinstance(x, Sequence) else next(iter(np.asarray(x).flat), None)
    return not isinstance(first, str | Path | Image.Image)


def refuse_what_is_no_list(x: Any, form: ExampleForm | None) -> None:
    """Refuse one string where several are expected, and what holds no texts where the model takes texts.

    Raises:
        UserError: it is no list or array, or, of a model of texts, neither strings nor embeddings ``[n, D]``.
    """
    if isinstance(x, str | Path):
        raise UserError(
            f"the examples are one {type(x).__name__}, {str(x)[:50]!r}, expected several: put it into a list"
        )
    if not isinstance(form, TextForm) or isinstance(x, Tokens | MarkedTokens):
        return
    if x is None or (is_numeric(x) and np.ndim(as_numpy(x)) < 2):
        raise UserError(f"the examples are {x!r:.50}, expected a list of texts")


def as_numpy(x: Any) -> Any:
    """Return a tensor as an array that shares its memory; other examples are returned unchanged."""
    return x.detach().cpu().numpy() if isinstance(x, Tensor) else x


def as_examples(x: Any, form: ExampleForm | None, dtype: torch.dtype, progress: Progress = iter) -> Any:
    """Return examples as the data module of the training keeps them.

    Args:
        x: paths of image files; Pillow's images; an array or tensor of images ``[n, H, W]``, ``[n, H, W, C]`` or
            ``[n, C, H, W]``, uint8 or floats in [0, 1]; feature vectors ``[n, D]``; texts; or ``Tokens``. uint8 images
            of another size are brought to the form's, as files are. Strings are texts if the form is that of texts,
            else paths.
        form: the form of the examples that the model was trained on; None if it is not known.
        dtype: the dtype in which the network computes.
        progress: wraps the loop over files and pictures.

    Returns:
        A tensor ``[n, ...]``, images uint8 or floats in [0, 1], features in ``dtype``; or ``Tokens`` ``[n, T]``.

    Raises:
        UserError: files, pictures or texts, but no form is known; a text is empty; or a file cannot be read, with its
            name and the reason.
    """
    if isinstance(x, Tokens | MarkedTokens):
        return x
    if is_numeric(x):
        return as_tensor(x, form if isinstance(form, PictureForm) else None, dtype)
    if form is None:
        raise UserError(
            "the examples are files, pictures or texts, but it is not known how the model takes them: give form, "
            "or the folder of a run, whose settings say it"
        )
    if isinstance(form, TextForm):
        return form.items(texts_of(x))
    return torch.stack([as_item(each, form) for each in progress(x)])


def texts_of(x: Any) -> list[Any]:
    """Return a list of texts, given a sequence, or an array of them ``[n]`` or ``[n, 1]``."""
    if isinstance(x, list):
        return x
    array = np.asarray(x, dtype=object)
    if not array.ndim:
        raise UserError(f"the texts are {shown(x)}, expected a list of texts")
    if array.size != len(array):
        raise UserError(f"the texts are an array {list(array.shape)}, expected [n] or [n, 1]")
    return [str(each) if isinstance(each, str) else each for each in array.reshape(-1)]


def as_tensor(x: Any, form: PictureForm | None, dtype: torch.dtype) -> Tensor:
    """Return an array of images or feature vectors as a tensor; see ``as_examples``."""
    array = x if isinstance(x, Tensor) else torch.from_numpy(np.array(x))
    if array.dtype == torch.uint8:
        array = channels_first(array, form)
        is_image = form is not None and array.dim() == 4 and array.shape[1] in (1, 3)
        return form.resized(array) if form is not None and is_image else array
    array = channels_first(array, form).to(dtype)
    if form is not None and form.channels == 3 and array.dim() == 4 and array.shape[1] == 1:
        array = array.expand(-1, 3, -1, -1)  # as a grey file is read
    if form is not None and array.dim() == 4 and array.numel() and not (array.min() >= 0 and array.max() <= 1):
        raise UserError(
            f"the images are numbers from {array.min():g} to {array.max():g}, expected uint8, or floats in [0, 1]: "
            "divide them by 255, or convert them to uint8"
        )
    return array


def as_item(source: Image.Image | str | Path, form: PictureForm) -> Tensor:
    """Return a picture, or an image file, as an item, uint8 ``[channels, size, size]``."""
    return form.of_picture(source) if isinstance(source, Image.Image) else form.of_file(source)


def channels_first(array: Tensor, form: PictureForm | None) -> Tensor:
    """Return images as ``[n, C, H, W]``; feature vectors ``[n, D]`` and other shapes are returned unchanged."""
    if array.dim() == 3 and form is not None:
        return array.unsqueeze(1)
    if array.dim() == 4 and array.shape[1] not in (1, 3) and array.shape[-1] in (1, 3):
        return array.movedim(-1, 1)
    return array
