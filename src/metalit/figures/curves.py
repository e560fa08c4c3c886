"""Figures of training and adaptation; each function returns a Matplotlib figure and changes no global state."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from metalit.episode import Episode, Labelled
from metalit.metrics.episode_metrics import PRIMARY
from metalit.metrics.intervals import Summary

if TYPE_CHECKING:
    from metalit.runs.training_log import Curve, TrainingLog  # metalit.runs loads Lightning

# from the palette of Okabe and Ito, which colour-blind readers can distinguish too
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#555555"
LOG_RANGE = 50.0  # positive values that span more than this factor get a logarithmic axis
SMOOTHED = 60  # a curve with more points than this is drawn with its running mean
SHOWN_STEPS = 5  # adaptation curves per panel, including the first and the last step
COLUMN, ROW = 5.2, 3.4  # size of a panel in inches

Array = npt.NDArray[Any]


def learning_curves(log: "TrainingLog") -> Figure:
    """Draw training and validation curves over the training step, with one panel per metric.

    The band is the 95 % interval of the validation metric. A training curve with more than 60 points is drawn with its
    running mean.
    """
    names = [name for name in ("loss", *PRIMARY[:-1]) if log.has(name)]
    figure, axes_of = panels(len(names))
    for axes, name in zip(axes_of, names, strict=True):
        train, val, interval = (log.curve(each) for each in (f"train/{name}", f"val/{name}", f"val/{name}_ci95"))
        if len(train.steps):
            _training_curve(axes, train)
        if len(val.steps):
            _validation_curve(axes, val, interval)
        _value_scale(axes, name, np.concatenate([train.values, val.values]))
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("training step")
        axes.set_ylabel(name)
        axes.legend(frameon=False)
    return figure


def adaptation_curve(summaries: Mapping[str, Sequence[Summary]]) -> Figure:
    """Draw the mean and 95 % interval of each metric over the adaptation step.

    Args:
        summaries: by metric, one summary per step, starting with step 0, before adaptation.
    """
    figure, axes_of = panels(len(summaries))
    for axes, (name, by_step) in zip(axes_of, summaries.items(), strict=True):
        steps, means = np.arange(len(by_step)), np.array([summary.mean for summary in by_step])
        intervals = np.nan_to_num([summary.ci95 for summary in by_step])  # nan for a single episode: no bar
        many = len(steps) > 20  # error bars and markers would overlap
        axes.fill_between(steps, means - intervals, means + intervals, color=BLUE, alpha=0.2, linewidth=0)
        axes.errorbar(
            steps, means, None if many else intervals, color=BLUE, marker="" if many else "o", ms=4, capsize=3
        )
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(0.05, 0.12)
        last = (steps[-1], means[-1])
        axes.annotate(f"{means[-1]:.4g}", last, (0, 9), textcoords="offset points", ha="center", color=BLUE)
        _value_scale(axes, name, means)
        axes.set_xlabel("adaptation step")
        axes.set_ylabel(name)
    return figure


def adaptation(episode: Episode, predictions: Tensor) -> Figure:
    """Draw each task's regression curve before adaptation, after some of the steps, and after the last.

    Args:
        episode: B tasks with one input and one output: support ``[B, S, 1]``, query ``[B, Q, 1]``.
        predictions: ``[B, T, Q, 1]`` at the query inputs, for each of T stages of adaptation.
    """
    (support_x, support_y), (query_x, query_y) = (_points(part) for part in (episode.support, episode.query))
    curves = predictions.float().cpu()[..., 0]
    figure, axes_of = panels(len(curves))
    stages = curves.shape[1]
    # evenly spaced stages; round may give the same one twice, hence the set
    shown = sorted({round(float(stage)) for stage in np.linspace(0, stages - 1, min(stages, SHOWN_STEPS))})
    colours = matplotlib.colormaps["viridis"](np.linspace(0.1, 0.85, len(shown)))[::-1]
    for task, axes in enumerate(axes_of):
        order = query_x[task].argsort()  # query inputs come in any order; a line needs them sorted
        x = query_x[task][order]
        axes.plot(x, query_y[task][order], ".", color="#AAAAAA", ms=6, label="query", zorder=1)
        for stage, colour in zip(shown, colours, strict=True):
            final = stage == stages - 1
            width, style = (2.2, "-") if final else (1.3, "--" if stage == 0 else "-")
            label = _stage_label(stage, stages)
            axes.plot(x, curves[task, stage][order], style, color=colour, lw=width, label=label)
        axes.plot(support_x[task], support_y[task], "^", color=ORANGE, mec="white", ms=9, label="support", zorder=5)
        axes.set_title(f"test episode {task}", fontsize=10)
        axes.set_xlabel("x")
        axes.set_ylabel("y")
    handles, labels = axes_of[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def _points(part: Labelled) -> tuple[Tensor, Tensor]:
    """Return inputs and targets ``[B, n]``, NaN for padding, which is then not drawn and sorted to the end."""
    x, y = part.x.float().cpu()[..., 0], part.y.float().cpu()[..., 0]
    if part.mask is None:
        return x, y
    real = part.mask.cpu()
    return x.where(real, torch.nan), y.where(real, torch.nan)


def _stage_label(stage: int, stages: int) -> str:
    if stages == 1:
        return "prediction"
    return "before adaptation" if stage == 0 else f"{stage} step" + ("s" if stage > 1 else "")


def panels(count: int) -> tuple[Figure, list[Axes]]:
    """Return a figure of so many panels in two columns, and their axes."""
    columns = min(count, 2)
    rows = -(-count // columns)
    figure = Figure(figsize=(COLUMN * columns, ROW * rows), layout="constrained")
    found = [figure.add_subplot(rows, columns, i + 1) for i in range(count)]
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, found


def _training_curve(axes: Axes, curve: "Curve") -> None:
    if len(curve.steps) <= SMOOTHED:
        axes.plot(curve.steps, curve.values, color=GREY, lw=1.4, label="train")
        return
    window = len(curve.steps) // (SMOOTHED // 2)
    smooth = np.convolve(curve.values, np.full(window, 1 / window), mode="valid")
    middle = curve.steps[(window - 1) // 2 :][: len(smooth)]
    axes.plot(curve.steps, curve.values, color=GREY, lw=0.8, alpha=0.3)
    axes.plot(middle, smooth, color=GREY, lw=1.6, label=f"train, mean of {window} points")


def _validation_curve(axes: Axes, curve: "Curve", interval: "Curve") -> None:
    marker = "o" if len(curve.steps) <= SMOOTHED else ""
    axes.plot(curve.steps, curve.values, color=BLUE, lw=1.8, marker=marker, ms=3.5, label="validation")
    if len(interval.steps) == len(curve.steps):  # not if some intervals are nan, as with a single episode
        low, high = curve.values - interval.values, curve.values + interval.values
        label = "95 % interval"
        axes.fill_between(curve.steps, low, high, color=BLUE, alpha=0.2, linewidth=0, label=label)


def _value_scale(axes: Axes, name: str, values: Array) -> None:
    finite = values[np.isfinite(values)]
    if name != "accuracy" and len(finite) and finite.min() > 0 and finite.max() / finite.min() > LOG_RANGE:
        axes.set_yscale("log")
