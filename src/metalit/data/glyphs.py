"""Glyphs: invented handwriting, as many classes as wanted and nothing to download."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from metalit.data.module import ClassificationDataModule
from metalit.data.store import ClassStore
from metalit.data.stream import Split, Words, distinct, random_words, uniform
from metalit.errors import at_least

Floats = npt.NDArray[np.floating[Any]]

# Streams apart from each other and from the one that draws episodes with the same seed.
CHARACTERS = int.from_bytes(b"glyphs-c")
EXAMPLES = int.from_bytes(b"glyphs-e")
STROKES, CONTROLS, POINTS, SIZE = 4, 4, 48, 28
NUMBERS_OF_STROKES = np.array([1, 2, 2, 2, 3, 3, 3, 4, 4])
CELLS = 3  # a stroke runs between two cells of a 3x3 grid
CHARACTER_WIDTH = 1 + STROKES * 13
EXAMPLE_WIDTH = 2 * STROKES * CONTROLS + 7
GAIN = 1.7  # above 1 a stroke has a saturated core, as ink has


class Glyphs(ClassificationDataModule):
    """Procedurally drawn characters, 28x28, strokes 1 on 0: a data set without files.

    A class is one to four cubic Bezier strokes (lines, arcs, waves, loops); an example moves their control points,
    turns, scales, shears and shifts the whole, and takes a pen of another width. Class c of a split is a function
    of (seed, split, c) alone and its example e of (seed, split, c, e), whatever the other settings are.

    Args:
        classes: how many classes the training split has.
        eval_classes: how many the validation and the test split have each; a quarter of ``classes`` if not given.
        examples_per_class: examples of each class.
        **settings: the settings of ``ClassificationDataModule``; ``root`` has no use here.

    Raises:
        ValueError: fewer than two classes, or no examples.
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
        characters, inked = compose(random_words(self.seed ^ CHARACTERS, split, 0, classes, CHARACTER_WIDTH))
        images = np.empty((classes, self.examples_per_class, SIZE, SIZE), dtype=np.uint8)
        for example in range(self.examples_per_class):
            words = random_words(self.seed ^ EXAMPLES, split, example << 32, classes, EXAMPLE_WIDTH)
            images[:, example] = draw(*write(characters, words), inked)
        sizes = np.full(classes, self.examples_per_class, dtype=np.int64)
        items = torch.from_numpy(images.reshape(-1, 1, SIZE, SIZE))
        return ClassStore(items, sizes, [f"{split}/{c:05}" for c in range(classes)])


def compose(words: Words) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Make characters out of random words.

    Args:
        words: ``[n, CHARACTER_WIDTH]``.

    Returns:
        Bezier control points ``[n, strokes, 4, 2]`` within the unit square, and which strokes are drawn,
        ``[n, strokes]``.
    """
    count = NUMBERS_OF_STROKES[(uniform(words[:, 0]) * len(NUMBERS_OF_STROKES)).astype(np.int64)]
    inked = np.arange(STROKES) < count[:, None]
    own = words[:, 1:].reshape(len(words), STROKES, 13)
    cells = distinct(own[..., :4], np.full(own.shape[:2], CELLS**2))
    ends = (np.stack([cells % CELLS, cells // CELLS], axis=-1) + 0.5) / CELLS
    ends += uniform(own[..., 4:8], -0.13, 0.13).reshape(ends.shape)
    joins, kind, sign = uniform(own[..., 8]), uniform(own[..., 9]), np.sign(uniform(own[..., 10], -1.0, 1.0))
    # A stroke goes on from the end of the one before or branches off its middle, or starts anew.
    for stroke in range(1, STROKES):
        before = ends[:, stroke - 1]
        for share, point in ((0.35, before[:, 1]), (0.6, before.mean(axis=1))):
            join = (joins[:, stroke] < share) & (joins[:, stroke] >= share - 0.25)
            ends[join, stroke, 0] = point[join]
    chord = ends[..., 1, :] - ends[..., 0, :]
    normal = np.stack([-chord[..., 1], chord[..., 0]], axis=-1) * sign[..., None]
    bends = uniform(own[..., 11:13], 0.3, 0.9)
    wave, loop, straight = kind < 0.2, (kind >= 0.2) & (kind < 0.35), kind >= 0.7
    bends[wave, 1] *= -1
    bends[straight] *= 0.1
    along = np.where(loop[..., None], (1.3, -0.3), (1 / 3, 2 / 3))
    start, end = ends[..., :1, :], ends[..., 1:, :]
    inner = start + along[..., None] * chord[..., None, :] + bends[..., None] * normal[..., None, :]
    return fit(np.concatenate([start, inner, end], axis=-2), inked), inked


def fit(controls: Floats, inked: npt.NDArray[np.bool_]) -> Floats:
    """Centre each character and make its longer side fill 0.72 of the square."""
    points = (bezier(POINTS) @ controls).reshape(len(controls), STROKES, POINTS, 2)
    drawn = inked[..., None, None]
    low = np.where(drawn, points, np.inf).min(axis=(1, 2))[:, None, None]
    top = np.where(drawn, points, -np.inf).max(axis=(1, 2))[:, None, None]
    scale = 0.72 / (top - low).max(axis=-1, keepdims=True)
    fitted: Floats = 0.5 + (controls - (low + top) / 2) * scale
    return fitted


def write(characters: Floats, words: Words) -> tuple[Floats, Floats]:
    """Write each character once: ``[n, strokes, 4, 2]`` control points and ``[n]`` widths of the pen, in pixels."""
    wobble = uniform(words[:, :-7], -0.06, 0.06).reshape(characters.shape)
    turn, wide, high, slant, right, down, pen = uniform(words[:, -7:], -1.0, 1.0).T
    x, y = np.moveaxis(characters + wobble - 0.5, -1, 0).reshape(2, len(words), -1)
    turn, pens = 0.35 * turn[:, None], 0.75 + 0.15 * pen
    x, y = np.exp(0.2 * wide[:, None]) * x + 0.3 * slant[:, None] * y, np.exp(0.2 * high[:, None]) * y
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    moved = np.stack([x + 0.08 * right[:, None], y + 0.08 * down[:, None]], axis=-1) + 0.5
    return moved.reshape(characters.shape), pens


def draw(controls: Floats, pens: Floats, inked: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """Render strokes with a Gaussian pen as ``[n, 28, 28]`` uint8.

    The ink is the line integral of the pen along the strokes. A Gaussian is a product over x and y, so the sum
    over the points of all strokes is one matrix product.
    """
    points = (bezier(POINTS) @ controls * SIZE - 0.5).astype(np.float32)
    steps = np.linalg.norm(np.gradient(points, axis=2), axis=-1) * inked[..., None]
    pens = pens.astype(np.float32)[:, None, None]
    flat = points.reshape(len(points), -1, 2)
    at_x, at_y = (np.exp(-(((flat[..., i, None] - np.arange(SIZE)) / pens) ** 2) / 2) for i in (0, 1))
    ink = steps.reshape(len(points), -1, 1) * at_y / (pens * np.sqrt(2 * np.pi))
    drawn = GAIN * ink.transpose(0, 2, 1).astype(np.float32) @ at_x.astype(np.float32)
    images: npt.NDArray[np.uint8] = np.rint(255 * drawn.clip(0, 1)).astype(np.uint8)
    return images


def bezier(points: int) -> Floats:
    """Return the cubic Bernstein polynomials at ``points`` places from 0 to 1, ``[points, 4]``."""
    t = np.linspace(0, 1, points)[:, None]
    return np.concatenate([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3], axis=1)
