"""Results as tables, and as one picture."""

from collections.abc import Sequence
from pathlib import Path

from .cases import SECTIONS
from .results import Result
from .statistics import Spread, short

HEAD = ("", "median and quartiles", "times as long", "first step", "memory")
UNITS = {"step": ("ms", 1e3), "episode": ("µs", 1e6), "start": ("s", 1.0)}


def page(told: dict[str, str], results: Sequence[Result]) -> str:
    """Return the machine and all tables as Markdown."""
    words = [f"{name} {value}" for name, value in told.items() if name not in ("command", "device", "date", "commit")]
    parts = [f"{told['date']}, commit {told['commit']}: {'; '.join(words)}.\n\n`{told['command']}`"]
    for section, title in SECTIONS.items():
        chosen = [result for result in results if result.section == section]
        if chosen:
            parts.append(f"### {title}\n\n" + "\n\n".join(map(table, chosen)))
    return "\n\n".join(parts)


def table(result: Result) -> str:
    """Return the table of a case, with who was left out below it."""
    if result.failed:
        return f"`{result.name}`: failed, {result.failed}"
    lines = [row((f"`{result.name}`, {rounds(result)}", *HEAD[1:])), row(["---"] * len(HEAD))]
    lines += [row(cells) for cells in rows(result)]
    lines += [f"\n{name} left out: {reason}" for name, reason in result.found.left_out.items()]
    return "\n".join(lines)


def rounds(result: Result) -> str:
    """Return how many rounds there were."""
    return f"{max((len(seconds) for seconds in result.found.seconds.values()), default=0)} rounds"


def rows(result: Result) -> list[tuple[str, ...]]:
    """Return a line of cells for each contender."""
    found, (unit, factor) = result.found, UNITS[result.unit]
    lines: list[tuple[str, ...]] = []
    for name, times in result.times().items():
        taken = [f"{ratio} × {ratio.other}" for ratio in result.ratios if ratio.one == name]
        first = f"{short(found.first[name])} s" if name in found.first else ""
        mib = f"{short(found.mib[name])} MiB" if name in found.mib else ""
        scaled = Spread(*(factor * value for value in times))
        lines.append((name, f"{scaled} {unit}", "; ".join(taken), first, mib))
    return lines


def row(cells: Sequence[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def write_into(path: Path, name: str, text: str) -> None:
    """Replace what stands between two marks of a page.

    Raises:
        ValueError: the page has no such marks.
    """
    begin, end = f"<!-- table:{name} -->", f"<!-- /table:{name} -->"
    before, _, rest = path.read_text().partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{path} has no {begin} ... {end}")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def draw(results: Sequence[Result], path: Path) -> None:
    """Draw every ratio with its quartiles, one line each, on a logarithmic axis."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    drawn = [(result, ratio) for result in results if result.section != "methods" for ratio in result.ratios]
    figure = Figure(figsize=(9, 1 + 0.24 * len(drawn)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    labels = [f"{result.name}: {ratio.one} / {ratio.other}" for result, ratio in drawn]
    places = range(len(drawn), 0, -1)
    medians = [ratio.median for _, ratio in drawn]
    reach = [
        [ratio.median - ratio.lower for _, ratio in drawn],
        [ratio.upper - ratio.median for _, ratio in drawn],
    ]
    axes.errorbar(medians, places, xerr=reach, fmt="o", markersize=4, capsize=3)
    axes.axvline(1.0, linewidth=0.8, color="grey")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel="times as long (median and quartiles of the rounds)", yticks=[*places], yticklabels=labels)
    axes.tick_params(axis="y", labelsize=7)
    axes.grid(axis="x", which="both", linewidth=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
