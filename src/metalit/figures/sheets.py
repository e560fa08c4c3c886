"""Sheets of images: one episode with its support images and predictions, or generated images of some tasks."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from metalit.episode import Episode

RIGHT, WRONG = "#009E73", "#D62728"
MOST_WAYS, MOST_SHOTS, MOST_QUERIES = 10, 5, 8  # more would be too small to see
CELL = 0.85  # size of an image with its margin, in inches
GAP = 0.12  # space between images, as a fraction of an image's width
NAME_LENGTH, FILE_LENGTH = 16, 18  # characters shown of the name of a class and of a file
LABEL = 0.22  # height of the text line below a query image, as the same fraction


def is_sheet_possible(episode: Episode) -> bool:
    """Whether the episode is a classification of images, ``[B, n, channels, height, width]``, grey or coloured."""
    x, y = episode.query.x, episode.query.y
    return isinstance(x, Tensor) and x.ndim == 5 and x.shape[2] in (1, 3) and not y.is_floating_point()


def episode_sheet(
    episode: Episode,
    logits: Tensor,
    classes: Sequence[str] = (),
    support: Sequence[str] = (),
    query: Sequence[str] = (),
) -> Figure:
    """Draw one episode: one row per class, with its support images on the left and its query images on the right.

    A query image has a green frame if its prediction is correct; otherwise a red one. Below it is the predicted class,
    and, without names, the true class of a wrong one. At most 10 classes, 5 support images and 8 query images per class
    are shown.

    Args:
        episode: a meta-batch of images, of which the first task is drawn. Support ``[B, S, C, H, W]``, labels
            ``[B, S]``.
        logits: ``[B, Q, N]`` logits of the query images.
        classes: ``N`` names of the classes; their numbers are shown if not given.
        support: ``S`` names of the first task's support images, shown above them; none if not given.
        query: ``Q`` names of its query images.
    """
    # of a task smaller than others, without the padding
    places = [slice(None) if part.mask is None else part.mask[0] for part in (episode.support, episode.query)]
    (support_x, support_y), (query_x, query_y) = (
        (part.x[0][place].cpu(), part.y[0][place].cpu())
        for part, place in zip((episode.support, episode.query), places, strict=True)
    )
    predicted = logits[0][places[1]].argmax(-1).cpu()
    ways = min(int(support_y.max()) + 1, MOST_WAYS)
    shots = min(int(support_y.bincount().max()), MOST_SHOTS)
    queries = min(int(query_y.bincount().max()), MOST_QUERIES)
    # one range for the whole sheet: images scaled one by one would not be comparable
    low, high = (f(torch.cat([support_x.flatten(), query_x.flatten()])).item() for f in (torch.min, torch.max))
    figure, axes = _sheet(ways, shots + queries)
    for way in range(ways):
        top = way * (1 + GAP + LABEL)
        label = shortened(classes[way], NAME_LENGTH) if classes else f"class {way}"
        axes.text(-0.15, top + 0.5, label, ha="right", va="center", fontsize=9, parse_math=False)
        for column, image in enumerate(support_x[support_y == way][:shots]):
            _draw_image(axes, _pixels(image, low, high), column * (1 + GAP), top)
        _draw_files(axes, _of_class(support, support_y, way)[:shots], 0, top)
        of_class = query_y == way
        _draw_files(axes, _of_class(query, query_y, way)[:queries], _query_left(shots), top)
        # strict=False: only the images are cut to the number shown
        for column, (image, label) in enumerate(zip(query_x[of_class][:queries], predicted[of_class], strict=False)):
            left = _query_left(shots) + column * (1 + GAP)
            _draw_image(axes, _pixels(image, low, high), left, top)
            _draw_verdict(axes, int(label), way, left, top, classes)
    _finish(axes, predicted, query_y, shots, ways)
    return figure


def sample_sheet(support: Tensor, samples: Tensor) -> Figure:
    """Draw generated images: one row per task, with support images on the left and generated images on the right.

    At most 5 support images and 8 generated images per task are shown.

    Args:
        support: ``[B, S, C, H, W]``, the support images.
        samples: ``[B, n, C, H, W]``, the generated images.
    """
    support, samples = support[:, :MOST_SHOTS].cpu(), samples[:, :MOST_QUERIES].cpu()
    low, high = min(support.min().item(), samples.min().item()), max(support.max().item(), samples.max().item())
    left = _query_left(support.shape[1])
    figure, axes = _sheet(len(support), support.shape[1] + samples.shape[1])
    for row, (real, generated) in enumerate(zip(support, samples, strict=True)):
        top = row * (1 + GAP + LABEL)
        axes.text(-0.15, top + 0.5, f"task {row}", ha="right", va="center", fontsize=9)
        for start, images in ((0.0, real), (left, generated)):
            for column, image in enumerate(images):
                _draw_image(axes, _pixels(image, low, high), start + column * (1 + GAP), top)
    for start, title in ((0.0, "support"), (left, "generated")):
        axes.text(start, -0.15, title, ha="left", va="bottom", fontsize=10, weight="bold")
    return figure


def _query_left(shots: int) -> float:
    return shots * (1 + GAP) + 0.45


def _sheet(rows: int, columns: int) -> tuple[Figure, Axes]:
    width, height = columns * (1 + GAP) + 1.6, rows * (1 + GAP + LABEL) + 0.7
    figure = Figure(figsize=(CELL * width, CELL * height), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    axes.set_xlim(-1.1, columns * (1 + GAP) + 0.5)
    axes.set_ylim(rows * (1 + GAP + LABEL), -0.7)
    return figure, axes


def _pixels(image: Tensor, low: float, high: float) -> npt.NDArray[np.float32]:
    scaled = (image.float() - low) / max(high - low, 1e-12)
    if len(image) == 1:
        scaled = (1 - scaled).expand(3, -1, -1)  # strokes are 1 in the data; show them dark on light, as drawn
    return scaled.permute(1, 2, 0).numpy()


def _draw_image(axes: Axes, pixels: npt.NDArray[np.float32], left: float, top: float) -> None:
    axes.imshow(pixels, extent=(left, left + 1, top + 1, top), interpolation="nearest", aspect="equal")
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor="#CCCCCC", lw=0.6))


def shortened(name: str, length: int) -> str:
    """Return a name, its middle left out if it is longer than ``length`` characters, at least 3."""
    if len(name) <= length:
        return name
    # the end tells more files apart than the middle: IMG_0001, IMG_0002
    end = (length - 1) // 2
    return f"{name[: length - 1 - end]}…{name[-end:]}"


def _of_class(names: Sequence[str], labels: Tensor, way: int) -> list[str]:
    return [names[at] for at in (labels == way).nonzero().flatten().tolist()] if names else []


def _draw_files(axes: Axes, names: Sequence[str], left: float, top: float) -> None:
    for column, name in enumerate(names):
        text = shortened(name.rpartition("/")[2], FILE_LENGTH)
        middle = left + column * (1 + GAP) + 0.5
        axes.text(middle, top - 0.01, text, ha="center", va="bottom", fontsize=4.5, color="#666666", parse_math=False)


def _draw_verdict(axes: Axes, predicted: int, true: int, left: float, top: float, classes: Sequence[str]) -> None:
    right = predicted == true
    colour = RIGHT if right else WRONG
    axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, lw=2.2))
    if classes:  # the true class is the name of the row
        text, size = shortened(classes[predicted], FILE_LENGTH), 6.0
    else:
        text, size = f"{predicted}" if right else f"{predicted} (true {true})", 7.5
    axes.text(left + 0.5, top + 1.06, text, ha="center", va="top", fontsize=size, color=colour, parse_math=False)


def _finish(axes: Axes, predicted: Tensor, true: Tensor, shots: int, ways: int) -> None:
    correct, total = int((predicted == true).sum()), len(true)
    axes.text(0, -0.15, "support", ha="left", va="bottom", fontsize=10, weight="bold")
    title = f"query: {correct} of {total} recognised"
    axes.text(_query_left(shots), -0.15, title, ha="left", va="bottom", fontsize=10, weight="bold")
    middle = _query_left(shots) - (0.45 + GAP) / 2
    axes.plot([middle, middle], [-0.1, ways * (1 + GAP + LABEL) - LABEL], color="#CCCCCC", lw=1)
