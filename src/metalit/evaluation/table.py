"""Results as a table in the terminal."""

from collections.abc import Mapping

from rich.table import Table
from rich.text import Text

from metalit.evaluation.results import Results
from metalit.metrics import primary_metric


def results_table(results: Results) -> Table:
    """Return a table with the mean ± 95 % interval of each metric, and the primary metric after each adaptation step.

    Accuracies are in [0, 1], with four digits. The last section lists the setting, without which the numbers mean
    little.

    Args:
        results: from ``build_results`` or ``read_results``.
    """
    table = Table(title=f"{results['split']}, {results['episodes']} episodes")
    table.add_column("metric")
    table.add_column("mean ± 95 % interval", justify="right")
    for name, numbers in results["metrics"].items():
        if not name.endswith("_before_adaptation"):  # the section by step has these
            table.add_row(name, _cell(numbers))
    if "by_step" in results:
        table.add_section()
        name = primary_metric(results["by_step"])
        for numbers in results["by_step"][name]:
            stage = f"after step {numbers['step']}" if numbers["step"] else "before adaptation"
            table.add_row(f"{name} {stage}", _cell(numbers))
    table.add_section()
    for name, value in results["setting"].items():
        table.add_row(name, Text(str(value)), style="dim")
    if any(numbers.get("undefined") for numbers in results["metrics"].values()):
        table.caption = (
            "A metric is undefined for an episode where it does not exist, such as the correlation with targets that "
            "are all equal; such episodes are left out of its mean and interval."
        )
    return table


def _cell(numbers: Mapping[str, float | None]) -> str:
    """Return mean and interval, and in how many episodes the metric is undefined."""
    text, undefined = mean_and_interval(numbers["mean"], numbers["ci95"]), numbers.get("undefined")
    return f"{text} ({undefined} undefined)" if undefined else text


def mean_and_interval(mean: float | None, ci95: float | None, sign: str = "") -> str:
    """Return ``mean ± interval``, with a dash for what there is not; a ``sign`` of ``+`` shows a positive one, too."""
    if mean is None:
        return "–"
    # squared errors may be tiny; accuracies are compared in the same four digits
    numbers = [
        "–" if value is None else f"{value:{form}{'.4f' if value == 0 or abs(value) >= 0.0005 else '.2e'}}"
        for value, form in ((mean, sign), (ci95, ""))
    ]
    return " ± ".join(numbers)
