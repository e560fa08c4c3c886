"""``predict --support`` and ``export``: a run learns the classes or tasks of the user's files, and predicts others."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from rich.console import Console
from tqdm import tqdm

from metalit.cli.parser import ArgumentParser
from metalit.cli.program import program_name
from metalit.commands.use_complexes import predict_affinities
from metalit.data import ClassificationDataModule, MetaScore, TaskTable
from metalit.errors import UserError, at_least, check
from metalit.files import keep_old, write_csv
from metalit.inference import Recogniser, TrainedModel
from metalit.inference.calibration import calibration_key, remembered
from metalit.inference.exported import beside, check_exportable, export
from metalit.inference.given import Given
from metalit.inference.predicting import TABLE, learn_given, shots_of, source_of, write_recognised
from metalit.inference.recognised import Recognised
from metalit.inference.sources import Source
from metalit.inference.table_rows import predict_rows
from metalit.inference.threshold import EPISODES, Threshold, calibrated

RUNS = Path("runs")  # where fit makes the folders of runs whose folder is not given


def predict_own(args: Sequence[str]) -> None:
    """Run ``predict --support``: learn the classes of one set of files, and recognise the examples of another."""
    options = predict_parser().parse_args(list(args))
    if Path(options.to or "").suffix == ".csv":
        raise UserError(f"to is {options.to}, expected a folder: predictions.csv is written into it")
    run_dir = run_folder(options)
    model = trained(options, run_dir)
    if isinstance(model.data, MetaScore):
        say(*predict_affinities(options, model.learner, model.data, Path(options.to or run_dir)))
        return
    if isinstance(model.data, TaskTable):
        predict_table(options, model, model.data, Path(options.to or run_dir))
        return
    source = source_of(model, options.on_bad_file, bar("files"), options.columns)
    # first of all, so that a broken file is named before anything is computed
    query = source.unlabelled(Path(options.query))
    say(*(f"Left out {each}" for each in query.left_out), *query.remarks)
    recogniser, support = learned(options, model, source, run_dir)
    say(*source.remarks(support, query))
    recognised = Recognised(query, recogniser.logits(query.items), recogniser)
    if recogniser.transductive and len(query.names) > 1:
        say(f"The method is transductive: a prediction depends on the other {source.noun} of --query")
    table, *sheets = write_recognised(recognised, source, Path(options.to or run_dir))
    known = sum(recognised.known)
    say(
        f"Recognised {known} of {len(recognised.known)} {source.noun}; the others are none of the "
        f"{len(recogniser.names)} classes: {recogniser.threshold}",
        *caution(recogniser, source),
        *recognised.judged(source.noun),
        f"Predictions are in {table}{''.join(f', with pictures in {sheet}' for sheet in sheets)}",
    )


def predict_table(options: Namespace, model: TrainedModel, data: TaskTable, folder: Path) -> None:
    """Learn the tasks of one table, predict the rows of another, and write them with their predictions."""
    for name, why in (("threshold", "every row has a prediction"), ("columns", "they are those of the training")):
        check(name, getattr(options, name), getattr(options, name) is None, f"none for a table: {why}")
    found = predict_rows(model.learner, data, Path(options.support), Path(options.query))
    table = folder / TABLE
    keep_old(table)
    write_csv(table, found.rows())
    left = [f"Left out {found.left_out} rows of --support, as their target is empty"] if found.left_out else []
    unknown = [
        f"No prediction for {len(found.unknown)} tasks without a row in --support: {', '.join(found.unknown[:3])}"
    ]
    tasks = "1 task" if found.tasks == 1 else f"{found.tasks} tasks"
    say(
        *left,
        *(unknown if found.unknown else []),
        f"Learned {tasks}, predicted {int((~found.values[:, 0].isnan()).sum())} of {len(found.values)} rows",
        *([found.judged] if found.judged else []),
        f"Predictions are in {table}",
    )


def export_model(args: Sequence[str]) -> None:
    """Run ``export``: learn the classes of a folder, and write a program that recognises them without metalit."""
    options = export_parser().parse_args(list(args))
    run_dir = run_folder(options)
    model = trained(options, run_dir)
    source = source_of(model, options.on_bad_file, bar("files"))
    check_exportable(model)
    recogniser, _ = learned(options, model, source, run_dir)
    description = export(recogniser, options.to, options.input)
    shape = ", ".join(map(str, description["input"]["shape"]))
    say(
        f"{options.to} takes {options.input} [{shape}] and returns probabilities [n, {len(recogniser.names)}] of "
        f"{', '.join(description['classes'])}; they differ from metalit's by at most "
        f"{description['largest_difference']:.1g}",
        f"None of these: {recogniser.threshold}",
        *caution(recogniser, source),
        f"{beside(Path(options.to))} describes input and outputs",
    )


def predict_parser() -> ArgumentParser:
    """Return the parser of ``predict --support``."""
    parser = use_parser(
        "predict",
        "Learn classes from labelled photos or texts and recognise others, or tasks from rows of a table. Without "
        "--support and --query, predict is "
        "Lightning's, on the episodes of a config; its help: predict --config FILE --help.",
    )
    parser.add_argument(
        "--query",
        type=str,
        required=True,
        help="A folder of photos, or one photo; a table of texts, or lines of a .txt; a table of rows.",
    )
    parser.add_argument(
        "--to", type=str | None, default=None, help="Folder of predictions.csv and .png; if not given, the run's."
    )
    parser.add_argument(
        "--columns",
        type=dict[str, str] | None,
        default=None,
        help="Columns of tables with unusual names, such as '{text: body, label: topic}'.",
    )
    return parser


def export_parser() -> ArgumentParser:
    """Return the parser of ``export``."""
    parser = use_parser("export", "Learn the classes of a folder, and write a program that recognises them.")
    parser.add_argument("--to", type=str, required=True, help="The file: *.onnx (ONNX) or *.pt2 (torch.export).")
    parser.add_argument(
        "--input",
        type=Literal["uint8", "float32"],
        default="uint8",
        help="What the program takes: images as stored, or in [0, 1].",
    )
    return parser


def use_parser(command: str, description: str) -> ArgumentParser:
    """Return a parser of the options that both commands have."""
    parser = ArgumentParser(prog=f"{program_name()} {command}", description=description)
    parser.add_argument(
        "--support",
        type=str,
        required=True,
        help="Labelled photos: a folder, support/<class>/*. Texts: a table with labels, csv, tsv, jsonl or parquet. "
        "A run on a table: rows with a target, csv, tsv or parquet.",
    )
    parser.add_argument(
        "--run_dir", type=str | None, default=None, help="The run; if not given, the newest one below runs."
    )
    parser.add_argument("--ckpt_path", type=str, default="best", help="best or last of the run, or a checkpoint file.")
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="The probability, in [0, 1], below which an example is none of the classes; if not given, it is "
        "calibrated on validation episodes, as the temperature of the probabilities always is.",
    )
    parser.add_argument(
        "--calibration_episodes",
        type=int,
        default=EPISODES,
        help="How many validation episodes that takes: fewer for a method that is slow to learn a task; 0 for no "
        "temperature, and nothing is none of the classes unless --threshold is given.",
    )
    parser.add_argument(
        "--on_bad_file",
        type=Literal["error", "skip"],
        default="error",
        help="What to do about files and rows that cannot be read.",
    )
    parser.add_argument("--device", type=str, default="cpu", help="Where to compute: cpu, cuda or another of torch's.")
    return parser


def run_folder(options: Namespace) -> Path:
    """Return the run folder: the one given, else that of the checkpoint, else the newest below ``runs``."""
    if options.run_dir is not None:
        return Path(options.run_dir)
    checkpoint = Path(options.ckpt_path)
    if checkpoint.parent.name == "checkpoints":
        return checkpoint.parent.parent
    found = [path for path in RUNS.glob("**/checkpoints/*.ckpt") if (path.parents[1] / "config.yaml").is_file()]
    if not found:
        raise FileNotFoundError(f"there is no run below {RUNS.absolute()}: give the folder of one, --run_dir")
    newest = max(found, key=lambda path: path.stat().st_mtime).parents[1]
    say(f"The run is {newest}, the newest below {RUNS}")
    return newest


def trained(options: Namespace, run_dir: Path) -> TrainedModel:
    """Return the run's trained model."""
    if options.threshold is not None and not 0 <= options.threshold <= 1:
        raise UserError(f"threshold is {options.threshold}, expected a probability in [0, 1]")
    at_least(0, calibration_episodes=options.calibration_episodes)
    return TrainedModel.of_run(run_dir, options.ckpt_path).to(options.device)


def learned(options: Namespace, model: TrainedModel, source: Source, run_dir: Path) -> tuple[Recogniser, Given]:
    """Return what a trained model learns from ``--support``, with temperature and threshold, and the examples."""
    recogniser, examples = learn_given(model, source, Path(options.support))
    say(*(f"Left out {each}" for each in examples.left_out), *examples.remarks)
    ways, shots = len(recogniser.names), shots_of(examples.labels)
    return recogniser.with_threshold(decision(model, ways, shots, options, run_dir)), examples


def decision(model: TrainedModel, ways: int, shots: int, options: Namespace, run_dir: Path) -> Threshold | None:
    """Return temperature and threshold, calibrated, except for a threshold that is given.

    Args:
        model: the trained model.
        ways: of the user's task.
        shots: of the user's task.
        options: the threshold, if one is given, and the number of episodes.
        run_dir: the run, in whose folder calibrations are kept.
    """
    learner, data, given, episodes = model.learner, model.data, options.threshold, options.calibration_episodes
    own = None if given is None else Threshold(given, chosen=True)
    if not isinstance(data, ClassificationDataModule) or episodes == 0:
        return own
    try:
        key = calibration_key(learner, data, ways, shots, given, episodes)
        calibrate = partial(calibrated, learner, data, ways, shots, bar("calibration"), given, episodes)
        return remembered(run_dir, key, calibrate)
    except UserError as error:
        if own is None:
            raise UserError(f"{error}; choose a threshold yourself by --threshold") from error
        say(f"The probabilities are the method's own, without a temperature: {error}")
        return own


def bar(name: str) -> Any:
    """Return a progress bar to put around a loop; it shows nothing where there is no terminal."""
    return partial(tqdm, desc=name, disable=None)


def caution(recogniser: Recogniser, source: Source) -> list[str]:
    """Return the warning about the threshold, if there is one."""
    return [] if recogniser.threshold is None else recogniser.threshold.caution(source.noun)


def say(*lines: str) -> None:
    """Print lines as they are."""
    console = Console()
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
