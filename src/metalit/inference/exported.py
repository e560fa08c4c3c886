"""A recogniser as a program without metalit: ``torch.export`` or ONNX, checked against what it was made from."""

import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

import metalit
from metalit.data.images.picture_form import PictureForm
from metalit.data.texts import TextForm
from metalit.errors import SettingError, UserError
from metalit.files import atomic_write, write_text
from metalit.functional.examples import to_unit_interval
from metalit.inference.recogniser import Probabilities, Recogniser, TrainedModel

TOLERANCE = 1e-4  # largest difference between a probability of the program and of the recogniser
NEEDS = "export to ONNX needs the packages onnx, onnxscript and onnxruntime: pip install 'metalit[export]'"
TEXTS = (
    "a model of texts cannot be exported: the program would take token ids, which mean nothing without the tokenizer; "
    "FewShotClassifier.save keeps both, for use with metalit"
)
Outputs = tuple[Probabilities, Probabilities]  # probabilities [n, N] and confidence [n]
Run = Callable[[Tensor], Outputs]  # runs a program that was read back from its file


class Exportable(nn.Module):
    """Probabilities ``[n, N]`` and confidence ``[n]`` as one module with everything learned in its buffers.

    Args:
        recogniser: what is exported; its learner is used as it is and not changed.
    """

    def __init__(self, recogniser: Recogniser) -> None:
        super().__init__()
        predictor, features = recogniser.predictor, recogniser.model.features
        self._predict = predictor.learner.predict
        self.features = None if features is None else features.network
        self._decision = recogniser.decision
        self._stored = None if features is None else features.numbers  # the dtype to which embeddings are rounded
        leaves, self._spec = tree_flatten((predictor.meta, predictor.state))
        self._leaves = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        for number, leaf in enumerate(leaves):
            if isinstance(leaf, Tensor):
                self.register_buffer(f"learned_{number}", leaf.detach().clone())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return probabilities and confidence of inputs ``[n, ...]``; uint8 images are scaled to [0, 1]."""
        buffers = self._buffers
        leaves = [buffers.get(f"learned_{number}", leaf) for number, leaf in enumerate(self._leaves)]
        meta, state = tree_unflatten(leaves, self._spec)
        x = to_unit_interval(x, torch.float32)
        if self.features is not None:
            x = self.features(x).to(self._stored).to(torch.float32)
        logits = self._predict(meta, state, x)
        return (logits / self._decision.temperature).softmax(-1), self._decision.confidence(logits)


def export(recogniser: Recogniser, path: str | Path, dtype: str = "uint8") -> dict[str, Any]:
    """Write a recogniser as a program, and a description of its input and output as JSON beside it.

    The file is written, read back and run at several batch sizes before it replaces an older one.

    Args:
        recogniser: what is exported.
        path: ``*.pt2`` for ``torch.export``, ``*.onnx`` for ONNX.
        dtype: of the program's input: ``uint8`` for images as they are stored, or ``float32`` for images in [0, 1] and
            for features.

    Returns:
        The description.

    Raises:
        SettingError: the file's name has another ending, or the input cannot have this dtype.
        UserError: the examples are texts, torch cannot export this method, or the program's probabilities differ by
            more than 1e-4.
        ImportError: packages for ONNX are missing.
    """
    path = Path(path)
    if path.suffix not in WRITERS:
        raise SettingError("to", path, "a file name that ends in .onnx or .pt2")
    examples = example_inputs(recogniser, dtype)
    program = traced(recogniser, examples[:2])
    description = described(recogniser, examples, path.suffix)
    with atomic_write(path) as file:
        run = WRITERS[path.suffix](program, description, Path(file.name))
        description["largest_difference"] = checked_difference(recogniser, run, examples)
    write_text(beside(path), json.dumps(description, indent=1, ensure_ascii=False) + "\n")
    return description


def check_exportable(model: TrainedModel) -> None:
    """Refuse a model of texts, before it learns anything.

    Raises:
        UserError: it is one.
    """
    if isinstance(model.form, TextForm):
        raise UserError(TEXTS)


def beside(path: Path) -> Path:
    """Return the file that describes an exported file: ``model.onnx.json``, since a ``model.pt2`` may lie there too."""
    return path.with_name(f"{path.name}.json")


def example_inputs(recogniser: Recogniser, dtype: str) -> Tensor:
    """Return made-up inputs ``[7, ...]`` in the dtype of the program's input."""
    like, form = recogniser.predictor.like, recogniser.model.form
    check_exportable(recogniser.model)
    if not isinstance(like, Tensor) or not like.is_floating_point():
        raise UserError("only a model of images or of feature vectors can be exported, and this one has other inputs")
    shape: Sequence[int] = like.shape[1:]
    if recogniser.model.features is not None and isinstance(form, PictureForm):  # the program embeds them itself
        shape = form.channels, form.size, form.size
    noise = torch.rand(7, *shape, generator=torch.Generator().manual_seed(0))
    if dtype == "float32":
        return noise
    if dtype != "uint8" or noise.dim() != 4:
        raise SettingError("input", dtype, "uint8 or float32" if noise.dim() == 4 else "float32, for feature vectors")
    return (noise * 255).to(torch.uint8)


def traced(recogniser: Recogniser, examples: Tensor) -> torch.export.ExportedProgram:
    """Return the program of a recogniser, whose first axis has any length."""
    try:
        with torch.no_grad(), quiet():
            batch = torch.export.Dim("n", min=1)
            return torch.export.export(
                Exportable(recogniser).cpu(), (examples,), dynamic_shapes=({0: batch},), strict=False
            )
    except Exception as error:  # the exporter raises errors of many kinds for code that it cannot follow
        name = type(recogniser.predictor.learner).__name__
        raise UserError(
            f"torch.export cannot express a {name} for any number of inputs ({str(error).splitlines()[0]}); "
            "FewShotClassifier.save keeps it for use with metalit"
        ) from error


def described(recogniser: Recogniser, examples: Tensor, kind: str) -> dict[str, Any]:
    """Return what a user of the program must know."""
    images, form, threshold = examples.dim() == 4, recogniser.model.form, recogniser.threshold
    return {
        "classes": [str(name) for name in recogniser.names],
        "input": {
            "name": "x",
            "shape": ["n", *examples.shape[1:]],
            "dtype": str(examples.dtype).removeprefix("torch."),
            "meaning": meaning(examples) if images else "feature vectors",
            **({"fit": form.fit, "inverted": form.inverted} if images and isinstance(form, PictureForm) else {}),
        },
        "outputs": [
            {"name": "probabilities", "shape": ["n", len(recogniser.names)], "dtype": "float32"},
            {"name": "confidence", "shape": ["n"], "dtype": "float32", "meaning": recogniser.decision.score},
        ],
        "none_of_these_below": None if threshold is None else threshold.value,  # of confidence
        "method": recogniser.predictor.learner.setting(),
        "format": {".onnx": "ONNX", ".pt2": "torch.export"}[kind],
        "versions": {"metalit": metalit.__version__, "torch": str(torch.__version__)},
    }


def meaning(images: Tensor) -> str:
    """Return what the numbers of an image are."""
    colours = "red, green, blue" if images.shape[1] == 3 else "grey"
    return f"{colours} in {'0 ... 255' if images.dtype == torch.uint8 else '[0, 1]'}, upright, row by row from the top"


def checked_difference(recogniser: Recogniser, run: Run, examples: Tensor) -> float:
    """Return the largest difference between probabilities of the program and of the recogniser, at three batch sizes.

    Raises:
        UserError: it is too large, so the program must not be used.
    """
    largest = 0.0
    for batch in (examples[:size] for size in (1, 3, len(examples))):
        logits = recogniser.of_batch(batch)
        expected = recogniser.probabilities_of(logits), recogniser.decision.confidence(logits).numpy()
        for found, value in zip(run(batch), expected, strict=True):
            # logits may be large, so their difference is relative
            difference = float((np.abs(found - value) / np.maximum(1, np.abs(value))).max())
            if not difference <= TOLERANCE:  # nan fails it too
                raise UserError(f"the exported program's outputs differ by {difference:.2g}, more than {TOLERANCE}")
            largest = max(largest, difference)
    return largest


def write_pt2(program: torch.export.ExportedProgram, description: dict[str, Any], path: Path) -> Run:
    """Write a program of ``torch.export`` with its description inside; return a function that runs the file."""
    with path.open("wb") as file, quiet():
        torch.export.save(program, file, extra_files={"metalit.json": json.dumps(description)})
    with path.open("rb") as written, quiet():
        module = torch.export.load(written).module()

    def run(x: Tensor) -> Outputs:
        probabilities, confidence = (output.detach().double().numpy() for output in module(x))
        return probabilities, confidence

    return run


def write_onnx(program: torch.export.ExportedProgram, description: dict[str, Any], path: Path) -> Run:
    """Write a program as ONNX with its class names inside; return a function that runs the file."""
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401  # torch needs it
    except ImportError as error:
        raise ImportError(f"{NEEDS} ({error})") from error
    try:
        with quiet():
            exported = torch.onnx.export(
                program, dynamo=True, verbose=False, input_names=["x"], output_names=["probabilities", "confidence"]
            )
    except torch.onnx.errors.OnnxExporterError as error:
        name, cause = description["method"]["algorithm"], str(error.__cause__ or error).splitlines()[0]
        raise UserError(f"ONNX cannot express a {name} ({cause}): export it to a .pt2 file") from error
    assert exported is not None
    model = exported.model_proto
    onnx.helper.set_model_props(
        model, {"classes": json.dumps(description["classes"]), "metalit": json.dumps(description)}
    )
    path.write_bytes(model.SerializeToString())
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(x: Tensor) -> Outputs:
        probabilities, confidence = (np.asarray(each, dtype=np.float64) for each in session.run(None, {"x": x.numpy()}))
        return probabilities, confidence

    return run


WRITERS: dict[str, Callable[[torch.export.ExportedProgram, dict[str, Any], Path], Run]] = {
    ".onnx": write_onnx,
    ".pt2": write_pt2,
}


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the exporters: warnings about their own code, and about packages that nothing here needs."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def class_names(path: str | Path) -> Sequence[str]:
    """Return the class names inside an exported file."""
    with Path(path).open("rb") as file:
        if Path(path).suffix == ".pt2":
            inside = {"metalit.json": ""}
            torch.export.load(file, extra_files=inside)
            return list(json.loads(inside["metalit.json"])["classes"])
        import onnx

        properties = {each.key: each.value for each in onnx.load(file).metadata_props}
        return list(json.loads(properties["classes"]))
