"""Results as a table in the terminal."""

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
            table.add_row(name, _mean_and_interval(name, numbers))
    if "by_step" in results:
        table.add_section()
        name = primary_metric(results["by_step"])
        for numbers in results["by_step"][name]:
            stage = f"after step {numbers['step']}" if numbers["step"] else "before adaptation"
            table.add_row(f"{name} {stage}", _mean_and_interval(name, numbers))
    table.add_section()
    for name, value in results["setting"].items():
        table.add_row(name, Text(str(value)), style="dim")
    return table


def _mean_and_interval(name: str, numbers: dict[str, float | None]) -> str:
    return " ± ".join(_number(name, numbers[key]) for key in ("mean", "ci95"))


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "–"
    # squared errors may be tiny; accuracies are compared in the same four digits
    return f"{value:.4f}" if name.startswith("accuracy") or abs(value) >= 0.01 or value == 0 else f"{value:.2e}"
