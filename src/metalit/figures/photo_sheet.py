"""A sheet of photos with what was recognised in them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

COLUMNS, MOST = 8, 64  # more photos would be too small to see
KNOWN, UNKNOWN = "#009E73", "#7F7F7F"
CELL, LABEL, GAP = 1.3, 0.24, 0.12  # inches; share of a photo's height for its line of text; share between photos


def photo_sheet(
    photos: npt.NDArray[np.uint8],
    names: Sequence[str],
    probabilities: Sequence[float],
    known: Sequence[bool],
) -> Figure:
    """Draw photos in rows, each with its most probable class and that probability; the first 64 if there are more.

    The frame is green where the class is taken for known, otherwise grey, with "none of these" above the class.

    Args:
        photos: ``[n, 3, height, width]``.
        names: ``n`` names of the most probable class.
        probabilities: ``n`` probabilities of that class, in [0, 1].
        known: ``n`` times whether the photo is taken for one of the classes.
    """
    shown = min(len(photos), MOST)
    columns, rows = min(shown, COLUMNS), -(-shown // COLUMNS)
    step, line = 1 + GAP, 1 + 2 * LABEL + GAP
    figure = Figure(figsize=(CELL * columns * step + 0.4, CELL * rows * line + 0.5), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axis_off()
    axes.set_aspect("equal")
    for number in range(shown):
        left, top = number % COLUMNS * step, number // COLUMNS * line
        axes.imshow(photos[number].transpose(1, 2, 0), extent=(left, left + 1, top + 1, top), interpolation="nearest")
        colour = KNOWN if known[number] else UNKNOWN
        axes.add_patch(Rectangle((left, top), 1, 1, fill=False, edgecolor=colour, lw=2))
        text = f"{shortened(names[number])} {probabilities[number]:.0%}"
        text = text if known[number] else f"none of these\n({text})"
        # "$" would begin a formula
        axes.text(left + 0.5, top + 1.05, text.replace("$", r"\$"), ha="center", va="top", fontsize=7, color=colour)
    axes.set_xlim(-0.1, columns * step)
    axes.set_ylim(rows * line, -0.1)
    axes.set_title(f"{shown} of {len(photos)} photos" if shown < len(photos) else f"{shown} photos", fontsize=9)
    return figure


def shortened(name: str, length: int = 18) -> str:
    """Return a name that fits under a photo."""
    return name if len(name) <= length else f"{name[: length - 1]}…"
