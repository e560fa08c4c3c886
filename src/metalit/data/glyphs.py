"""Glyphs: procedurally drawn characters, with any number of classes and nothing to download."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metalit.data.images.picture_form import PictureForm
from metalit.data.module import ClassificationDataModule
from metalit.data.store import ClassStore
from metalit.data.stream import Split, Words, distinct, random_words, uniform
from metalit.errors import at_least

Floats = npt.NDArray[np.floating[Any]]

# XORed into the seed, so that characters, examples and episodes of one seed use different random streams.
CHARACTERS = int.from_bytes(b"glyphs-c")
EXAMPLES = int.from_bytes(b"glyphs-e")
STROKES, CONTROLS, POINTS, SIZE = 4, 4, 48, 28
NUMBERS_OF_STROKES = np.array([1, 2, 2, 2, 3, 3, 3, 4, 4])  # drawn uniformly, so 2 and 3 are the most frequent
CELLS = 3  # a stroke connects two cells of a 3x3 grid
CHARACTER_WIDTH = 1 + STROKES * 13  # random words of a character: the number of strokes, and 13 for each stroke
EXAMPLE_WIDTH = 2 * STROKES * CONTROLS + 7  # of an example: x and y of each control point, and the 7 of ``write``
GAIN = 1.7  # above 1, the core of a stroke is saturated, like ink


class Glyphs(ClassificationDataModule):
    """Procedurally drawn characters of 28x28 pixels, strokes 1 on a background of 0; needs no files.

    A class is a character of one to four cubic Bezier strokes (lines, arcs, waves, loops). An example moves their
    control points, rotates, scales, shears and shifts the character, and varies the width of the pen. Class c of a
    split depends on (seed, split, c) alone and its example e on (seed, split, c, e), not on any other setting.

    Args:
        classes: number of classes in the training split.
        eval_classes: number of classes in each of the validation and test splits; if not given, a quarter of
            ``classes``, but at least two.
        examples_per_class: number of examples of each class.
        **settings: the settings of ``ClassificationDataModule``; ``root`` is not used.

    Raises:
        SettingError: fewer than two classes, or no examples.
    """

    def __init__(
        self,
        classes: int = 200,
        eval_classes: int | None = None,
        examples_per_class: int = 20,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.classes, self.examples_per_class = classes, examples_per_class
        self.eval_classes = max(classes // 4, 2) if eval_classes is None else eval_classes
        at_least(2, classes=classes, eval_classes=self.eval_classes)
        at_least(1, examples_per_class=examples_per_class)

    def load(self, split: Split) -> ClassStore:
        """Return the drawings of a split, ``[classes * examples, 1, 28, 28]`` uint8."""
        classes = self.classes if split == "train" else self.eval_classes
        # ``random_words`` counts classes here, where streams of episodes count episodes
        characters, inked = compose(random_words(self.seed ^ CHARACTERS, split, 0, classes, CHARACTER_WIDTH))
        images = np.empty((classes, self.examples_per_class, SIZE, SIZE), dtype=np.uint8)
        for example in range(self.examples_per_class):
            # 2^32 numbers for each example: row c is that of class c, however many classes and examples there are
            words = random_words(self.seed ^ EXAMPLES, split, example << 32, classes, EXAMPLE_WIDTH)
            images[:, example] = draw(*write(characters, words), inked)
        sizes = np.full(classes, self.examples_per_class, dtype=np.int64)
        items = torch.from_numpy(images.reshape(-1, 1, SIZE, SIZE))
        return ClassStore(items, sizes, [f"{split}/{c:05}" for c in range(classes)])

    def example_form(self) -> PictureForm:
        """Return the form of a drawing, dark ink on light paper, as the data set keeps it."""
        return PictureForm(SIZE, channels=1, inverted=True)


def compose(words: Words) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Compose characters from random words.

    Args:
        words: ``[n, CHARACTER_WIDTH]``.

    Returns:
        Bezier control points ``[n, strokes, 4, 2]`` within the unit square, and a mask ``[n, strokes]`` of the strokes
        that are drawn.
    """
    count = NUMBERS_OF_STROKES[(uniform(words[:, 0]) * len(NUMBERS_OF_STROKES)).astype(np.int64)]
    inked = np.arange(STROKES) < count[:, None]
    own = words[:, 1:].reshape(len(words), STROKES, 13)
    # two distinct cells, so that no stroke shrinks to a point
    cells = distinct(own[..., :4], np.full(own.shape[:2], CELLS**2))
    ends = (np.stack([cells % CELLS, cells // CELLS], axis=-1) + 0.5) / CELLS
    ends += uniform(own[..., 4:8], -0.13, 0.13).reshape(ends.shape)
    joins, kind, sign = uniform(own[..., 8]), uniform(own[..., 9]), np.sign(uniform(own[..., 10], -1.0, 1.0))
    # A stroke starts at the end or at the middle of the previous one, each with probability 1/4, or on its own.
    # Stroke after stroke, since the previous one may itself have been joined.
    for stroke in range(1, STROKES):
        before = ends[:, stroke - 1]
        for share, point in ((0.35, before[:, 1]), (0.6, before.mean(axis=1))):
            join = (joins[:, stroke] < share) & (joins[:, stroke] >= share - 0.25)
            ends[join, stroke, 0] = point[join]
    # the inner control points lie on the chord, displaced along its normal: to one side for an arc, to both for a wave
    chord = ends[..., 1, :] - ends[..., 0, :]
    normal = np.stack([-chord[..., 1], chord[..., 0]], axis=-1) * sign[..., None]
    bends = uniform(own[..., 11:13], 0.3, 0.9)
    wave, loop, straight = kind < 0.2, (kind >= 0.2) & (kind < 0.35), kind >= 0.7
    bends[wave, 1] *= -1
    bends[straight] *= 0.1
    # inner control points in reverse order, beyond the ends of the chord, make the curve cross itself: a loop
    along = np.where(loop[..., None], (1.3, -0.3), (1 / 3, 2 / 3))
    start, end = ends[..., :1, :], ends[..., 1:, :]
    inner = start + along[..., None] * chord[..., None, :] + bends[..., None] * normal[..., None, :]
    return fit(np.concatenate([start, inner, end], axis=-2), inked), inked


def fit(controls: Floats, inked: npt.NDArray[np.bool_]) -> Floats:
    """Centre each character and scale it so that its longer side fills 0.72 of the square."""
    # by the extent of the drawn curve, not of the control points, which may lie outside of it
    points = (bezier(POINTS) @ controls).reshape(len(controls), STROKES, POINTS, 2)
    drawn = inked[..., None, None]
    low = np.where(drawn, points, np.inf).min(axis=(1, 2))[:, None, None]
    top = np.where(drawn, points, -np.inf).max(axis=(1, 2))[:, None, None]
    scale = 0.72 / (top - low).max(axis=-1, keepdims=True)
    fitted: Floats = 0.5 + (controls - (low + top) / 2) * scale
    return fitted


def write(characters: Floats, words: Words) -> tuple[Floats, Floats]:
    """Return one example of each character: control points ``[n, strokes, 4, 2]`` and pen widths ``[n]`` in pixels."""
    wobble = uniform(words[:, :-7], -0.06, 0.06).reshape(characters.shape)
    turn, wide, high, slant, right, down, pen = uniform(words[:, -7:], -1.0, 1.0).T
    x, y = np.moveaxis(characters + wobble - 0.5, -1, 0).reshape(2, len(words), -1)
    # about the centre: scaling (by the exponential, which stays positive) and shearing, then rotation, then a shift
    turn, pens = 0.35 * turn[:, None], 0.75 + 0.15 * pen
    x, y = np.exp(0.2 * wide[:, None]) * x + 0.3 * slant[:, None] * y, np.exp(0.2 * high[:, None]) * y
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    moved = np.stack([x + 0.08 * right[:, None], y + 0.08 * down[:, None]], axis=-1) + 0.5
    return moved.reshape(characters.shape), pens


def draw(controls: Floats, pens: Floats, inked: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Render strokes with a Gaussian pen as images ``[n, 28, 28]`` uint8.

    The ink is the line integral of the pen along the strokes. A Gaussian is a product over x and y, so the sum over the
    points of all strokes is one matrix product.
    """
    points = (bezier(POINTS) @ controls * SIZE - 0.5).astype(np.float32)
    # weighted by arc length, since a Bezier curve's points are not equidistant; strokes that are not drawn weigh 0
    steps = np.linalg.norm(np.gradient(points, axis=2), axis=-1) * inked[..., None]
    pens = pens.astype(np.float32)[:, None, None]
    flat = points.reshape(len(points), -1, 2)
    at_x, at_y = (np.exp(-(((flat[..., i, None] - np.arange(SIZE)) / pens) ** 2) / 2) for i in (0, 1))
    ink = steps.reshape(len(points), -1, 1) * at_y / (pens * np.sqrt(2 * np.pi))
    drawn = GAIN * ink.transpose(0, 2, 1).astype(np.float32) @ at_x.astype(np.float32)
    images: npt.NDArray[np.uint8] = np.rint(255 * drawn.clip(0, 1)).astype(np.uint8)
    return images


def bezier(points: int) -> Floats:
    """Return the cubic Bernstein polynomials at ``points`` equidistant parameters from 0 to 1, ``[points, 4]``."""
    t = np.linspace(0, 1, points)[:, None]
    return np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
