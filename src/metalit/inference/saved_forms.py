"""How the user's own examples are taken, as JSON: all that a saved classifier needs of the data of the training."""

from dataclasses import asdict
from typing import Any

from metalit.data.images.picture_form import PictureForm
from metalit.data.texts import HashedWords, PretrainedTokenizer, TextForm, Tokenizer, VectorWords, Words
from metalit.errors import UserError
from metalit.inference.examples import ExampleForm

Spec = dict[str, Any]  # what JSON can hold
PICTURE, TEXT = "picture", "text"
# metalit's own tokenizers with the settings of their constructors; ``state`` has the rest
OWN: dict[str, tuple[type[Tokenizer], tuple[str, ...]]] = {
    "Words": (Words, ("size", "min_count", "lowercase")),
    "HashedWords": (HashedWords, ("size", "ngrams", "pieces", "lowercase")),
    "VectorWords": (VectorWords, ("path", "words")),
}
READ: dict[type[Tokenizer], str] = {PretrainedTokenizer: "files", VectorWords: "words"}  # what stands for their files


def form_as_json(form: ExampleForm | None) -> Spec | None:
    """Return a form as JSON can hold it, with its kind.

    Raises:
        UserError: its tokenizer is of a class of the user's, and only that class knows what belongs to it.
    """
    if form is None:
        return None
    if isinstance(form, PictureForm):
        return {"kind": PICTURE, **asdict(form)}
    tokenizer = tokenizer_as_json(form.tokenizer)
    return {"kind": TEXT, "tokenizer": tokenizer, "max_length": form.max_length, "marked": form.marked}


def form_from_json(spec: Spec | None) -> ExampleForm | None:
    """Return the form that ``form_as_json`` was given; a form without a kind is that of pictures.

    Raises:
        UserError: the tokenizer's vocabulary does not fit to its digest.
    """
    if spec is None:
        return None
    values = {name: value for name, value in spec.items() if name != "kind"}
    kind = spec.get("kind", PICTURE)
    if kind == PICTURE:
        return PictureForm(**values)
    if kind != TEXT:
        raise UserError(f"its form is that of a {kind}, expected {PICTURE} or {TEXT}")
    # JSON has other numbers than whole ones, too
    if type(values["max_length"]) is not int or type(values["marked"]) is not bool:
        raise UserError(f"its form has max_length {values['max_length']} and marked {values['marked']}")
    return TextForm(**{**values, "tokenizer": tokenizer_from_json(values["tokenizer"])})


def tokenizer_as_json(tokenizer: Tokenizer) -> Spec:
    """Return a tokenizer as JSON can hold it, its vocabulary included; see ``form_as_json``."""
    kind, state = type(tokenizer).__name__, tokenizer.state()
    if isinstance(tokenizer, PretrainedTokenizer):
        return {"settings": {"name_or_path": tokenizer.name_or_path, "files": tokenizer.file_texts()}, "state": state}
    if type(tokenizer) is not OWN.get(kind, (None, ()))[0]:
        raise UserError(
            f"a classifier with a {kind} as tokenizer cannot be saved, only one with {', '.join(OWN)} or "
            "PretrainedTokenizer: keep the folder of the run, and give it to FewShotClassifier"
        )
    return {"settings": {name: getattr(tokenizer, name) for name in OWN[kind][1]}, "state": state}


def tokenizer_from_json(spec: Spec) -> Tokenizer:
    """Return the tokenizer that ``tokenizer_as_json`` was given; see ``form_from_json``."""
    state = spec["state"]
    made = PretrainedTokenizer if state["kind"] == "PretrainedTokenizer" else OWN[state["kind"]][0]
    # without its files or words it would be read from the path, and the classifier may come from anywhere
    if made in READ and not spec["settings"].get(READ[made]):
        raise UserError("its tokenizer has neither files nor words")
    return made(**spec["settings"]).restored(state)
