"""Films of trajectories, and strips of their pictures."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from metalit.environments.filmed import Picture, Take

PANEL = (240, 180)  # most pixels of one picture in a film, width and height
CAPTION = 18  # pixels of height
COLUMNS = 6  # pictures of a trajectory in a strip
COLUMN, ROW = 1.7, 1.4  # inches of one of them


class Scene(NamedTuple):
    """One task's trajectories.

    Attributes:
        title: the task.
        takes: by stage of learning, in order.
    """

    title: str
    takes: Mapping[str, Take]


def film(scenes: Sequence[Scene], every: int) -> NDArray[np.uint8]:
    """Return pictures of the first and the last take of each task side by side, ``[F, height, width, 3]``.

    A trajectory that has ended stays as a pale picture until the others end.

    Args:
        scenes: a row each.
        every: steps between two pictures.
    """
    sheet, places = _sheet(scenes)
    last = max(take.times[-1] for take, _ in places)
    found = []
    for time in range(0, last + every, every):
        picture = sheet.copy()
        for take, (left, top) in places:
            small = Image.fromarray(_at(take, time))
            small.thumbnail(PANEL)
            picture.paste(small, (left + (PANEL[0] - small.width) // 2, top + (PANEL[1] - small.height) // 2))
        found.append(np.asarray(picture))
    return np.stack(found)


def film_strip(scenes: Sequence[Scene]) -> Figure:
    """Draw each task's trajectories, a row for each stage of learning, at a few times; pale after their end."""
    rows = [(scene, stage) for scene in scenes for stage in scene.takes]
    last = max(scene.takes[stage].times[-1] for scene, stage in rows)
    times = [round(time) for time in np.linspace(0, last, COLUMNS).tolist()]
    figure = Figure(figsize=(COLUMN * (COLUMNS + 1), ROW * len(rows) + 0.5), layout="constrained")
    for row, (scene, stage) in enumerate(rows):
        take, is_first = scene.takes[stage], stage == next(iter(scene.takes))
        for column, time in enumerate(times):
            axes = figure.add_subplot(len(rows), COLUMNS, row * COLUMNS + column + 1)
            axes.imshow(_at(take, time))
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if is_first:
                axes.set_title(f"{scene.title}\n\nstep {time}" if column == 0 else f"step {time}", fontsize=9)
            if column == 0:
                axes.set_ylabel(f"{stage}\nreturn {take.total:.4g}", rotation=0, ha="right", va="center", fontsize=9)
    return figure


def _sheet(scenes: Sequence[Scene]) -> tuple[Image.Image, list[tuple[Take, tuple[int, int]]]]:
    """Return the captions of a film, and each take with the place of its pictures: left and top, pixels."""
    # first and last, which are one if nothing is learned
    ends = [[*scene.takes.items()][:: max(1, len(scene.takes) - 1)] for scene in scenes]
    width, height = PANEL[0] * max(map(len, ends)), PANEL[1] + 2 * CAPTION
    sheet = Image.new("RGB", (width, height * len(scenes)), "white")
    draw, font, places = ImageDraw.Draw(sheet), ImageFont.load_default(12), []
    for row, (scene, shown) in enumerate(zip(scenes, ends, strict=True)):
        top = row * height
        draw.text((6, top + 2), scene.title, "black", font)
        for column, (stage, take) in enumerate(shown):
            left = column * PANEL[0]
            draw.text((left + 6, top + CAPTION + PANEL[1] + 2), f"{stage}: return {take.total:.4g}", "black", font)
            places.append((take, (left, top + CAPTION)))
    return sheet, places


def _at(take: Take, time: int) -> Picture:
    picture = take.pictures[bisect_right(take.times, time) - 1]
    return 255 - (255 - picture) // 3 if take.ended and time > take.times[-1] else picture
