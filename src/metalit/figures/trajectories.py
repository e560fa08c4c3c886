"""A figure of the paths that policies take through the plane."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from metalit.figures.curves import BLUE, GREY, ORANGE, panels

SHOWN = 5  # paths of each policy
REACH = 0.8  # the goals lie within 0.5 of the origin


def trajectories(goals: Tensor, before: tuple[Tensor, Tensor], after: tuple[Tensor, Tensor], steps: int) -> Figure:
    """Draw the first few paths in each task before adaptation and after it; one panel for each task.

    Args:
        goals: ``[B, 2]``.
        before: positions ``[B, n, H, 2]`` and mask ``[B, n, H]``, False after the end of a path.
        after: likewise, of the adapted policy.
        steps: how many inner steps lie between them.
    """
    figure, axes_of = panels(len(goals))
    for task, (axes, goal) in enumerate(zip(axes_of, goals.tolist(), strict=True)):
        _paths(axes, before[0][task], before[1][task], color=GREY, lw=0.8, alpha=0.7, label="before adaptation")
        label = f"after {steps} step{'s' * (steps > 1)}"
        _paths(axes, after[0][task], after[1][task], color=BLUE, lw=1.2, alpha=0.9, label=label)
        axes.plot(*goal, "*", color=ORANGE, mec="white", ms=14, label="goal", zorder=5)
        axes.plot(0, 0, "o", color="black", ms=4, label="start", zorder=5)
        axes.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", title=f"test task {task}")
    handles, labels = axes_of[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _paths(axes: Axes, positions: Tensor, mask: Tensor, label: str, **style: Any) -> None:
    for number, (path, alive) in enumerate(zip(positions[:SHOWN].cpu(), mask[:SHOWN].cpu(), strict=True)):
        axes.plot(*path[alive].T, label=label if number == 0 else None, **style)
