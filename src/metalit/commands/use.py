"""``predict --support`` and ``export``: a run learns the classes of a folder, and recognises photos or is exported."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

from jsonargparse import Namespace
from rich.console import Console
from tqdm import tqdm

from metalit.cli.parser import ArgumentParser
from metalit.cli.program import program_name
from metalit.data import ClassificationDataModule
from metalit.data.images import read_unlabelled
from metalit.errors import UserError
from metalit.inference import Recogniser, TrainedModel
from metalit.inference.exported import beside, export
from metalit.inference.predicting import (
    Recognised,
    described_bad,
    image_form,
    learn_folder,
    shots_of,
    write_recognised,
)
from metalit.inference.threshold import Threshold, calibrated

RUNS = Path("runs")  # where fit makes the folders of runs whose folder is not given


def predict_photos(args: Sequence[str]) -> None:
    """Run ``predict --support``: learn the classes of one folder, and recognise the photos of another."""
    options = predict_parser().parse_args(list(args))
    run_dir = run_folder(options)
    model = trained(options, run_dir)
    form = image_form(model)
    # first of all, so that a broken photo is named before anything is computed
    photos = read_unlabelled(Path(options.query), form.resize, options.on_bad_file, bar("photos"))
    say(*described_bad(photos.bad))
    recogniser = learned(options, model)
    recognised = Recognised(photos, recogniser.logits(form.items(photos.images)), recogniser)
    if recogniser.transductive and len(photos.names) > 1:
        say("The method is transductive: the prediction for a photo depends on the other photos of --query")
    table, sheet = write_recognised(recognised, Path(options.to or run_dir))
    known = sum(recognised.known)
    say(
        f"Recognised {known} of {len(recognised.known)} photos; the others are none of the {len(recogniser.names)} "
        f"classes: {recogniser.threshold}",
        *caution(recogniser),
        f"Predictions are in {table}, with pictures in {sheet}",
    )


def export_model(args: Sequence[str]) -> None:
    """Run ``export``: learn the classes of a folder, and write a program that recognises them without metalit."""
    options = export_parser().parse_args(list(args))
    recogniser = learned(options, trained(options, run_folder(options)))
    description = export(recogniser, options.to, options.input)
    shape = ", ".join(map(str, description["input"]["shape"]))
    say(
        f"{options.to} takes {options.input} [{shape}] and returns probabilities [n, {len(recogniser.names)}] of "
        f"{', '.join(description['classes'])}; they differ from metalit's by at most "
        f"{description['largest_difference']:.1g}",
        f"None of these: {recogniser.threshold}",
        *caution(recogniser),
        f"{beside(Path(options.to))} describes input and outputs",
    )


def predict_parser() -> ArgumentParser:
    """Return the parser of ``predict --support``."""
    parser = use_parser("predict", "Learn the classes of a folder from its photos, and recognise other photos.")
    parser.add_argument("--query", type=str, required=True, help="A folder of photos, or one photo.")
    parser.add_argument(
        "--to", type=str | None, default=None, help="Folder of predictions.csv and .png; if not given, the run's."
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
    parser.add_argument("--support", type=str, required=True, help="A folder of labelled photos: support/<class>/*.")
    parser.add_argument(
        "--run_dir", type=str | None, default=None, help="The run; if not given, the newest one below runs."
    )
    parser.add_argument("--ckpt_path", type=str, default="best", help="best or last of the run, or a checkpoint file.")
    parser.add_argument(
        "--threshold",
        type=float | None,
        default=None,
        help="The probability, in [0, 1], below which a photo is none of the classes; if not given, it is calibrated "
        "on validation episodes.",
    )
    parser.add_argument(
        "--on_bad_file",
        type=Literal["error", "skip"],
        default="error",
        help="What to do about files that cannot be read.",
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
    return TrainedModel.of_run(run_dir, options.ckpt_path).to(options.device)


def learned(options: Namespace, model: TrainedModel) -> Recogniser:
    """Return what a trained model learns from ``--support``, with a threshold."""
    recogniser, examples = learn_folder(model, Path(options.support), options.on_bad_file, bar("examples"))
    say(*described_bad(examples.bad))
    threshold = Threshold(options.threshold) if options.threshold is not None else None
    if threshold is None and isinstance(model.data, ClassificationDataModule):
        ways, shots = len(recogniser.names), shots_of(examples.labels)
        threshold = calibrated(model.learner, model.data, ways, shots, bar("calibration"))
    return recogniser.with_threshold(threshold)


def bar(name: str) -> Any:
    """Return a progress bar to put around a loop; it shows nothing where there is no terminal."""
    return partial(tqdm, desc=name, disable=None)


def caution(recogniser: Recogniser) -> list[str]:
    """Return the warning about the threshold, if there is one."""
    return [] if recogniser.threshold is None else recogniser.threshold.caution


def say(*lines: str) -> None:
    """Print lines as they are."""
    console = Console()
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def is_about_photos(words: Sequence[str]) -> bool:
    """Whether a command line is ``predict --support``, and not Lightning's ``predict``."""
    return words[:1] == ["predict"] and any(_names(words, option) for option in ("--support", "--query"))


def _names(words: Iterable[str], option: str) -> bool:
    return any(word == option or word.startswith(f"{option}=") for word in words)
