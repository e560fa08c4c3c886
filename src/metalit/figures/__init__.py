"""Figures of trainings, adaptation and episodes.

The rule of this room: recorded values in, a matplotlib figure out; no files, no Lightning.
"""

from metalit.figures.curves import adaptation, adaptation_curve, learning_curves
from metalit.figures.films import Scene, film, film_strip
from metalit.figures.photo_sheet import photo_sheet
from metalit.figures.sheets import episode_sheet, is_sheet_possible, sample_sheet
from metalit.figures.trajectories import trajectories

__all__ = [
    "Scene",
    "adaptation",
    "adaptation_curve",
    "episode_sheet",
    "film",
    "film_strip",
    "is_sheet_possible",
    "learning_curves",
    "photo_sheet",
    "sample_sheet",
    "trajectories",
]
