"""Files of word vectors: GloVe's and word2vec's text form, and NumPy's."""

import gzip
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from metalit.errors import SettingError, UserError

FIRST = 2  # id of the first word of a file; 0 is padding, 1 an unknown word
Vectors = npt.NDArray[np.float32]


class WordVectors(NamedTuple):
    """The words of a file with their vectors; word i has the token id ``FIRST + i``.

    Attributes:
        words: W words, each once; of a word that a file has several times, the first counts.
        vectors: ``[W, D]`` float32.
    """

    words: list[str]
    vectors: Vectors


def read_word_vectors(path: str | Path) -> WordVectors:
    """Return the words and vectors of a file.

    * Text, also with gzip (``.gz``): ``word number number ...`` in each line, as GloVe has it, or with a first line
      ``words length``, as word2vec does; UTF-8. A word may have spaces inside.
    * ``.npz``: arrays ``words``, of strings, and ``vectors``, ``[W, D]``.
    * ``.npy``: the vectors ``[W, D]``, with the words in a file of the same name that ends in ``.txt``, one a line.

    Nothing in a file is executed: arrays of Python objects are refused.

    Raises:
        SettingError: there is no such file.
        UserError: it has another form; names the line.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise SettingError("path", str(path), "a file of word vectors (.txt, .vec, .gz, .npz or .npy); there is none")
    if path.suffix in (".npz", ".npy"):
        words, vectors = arrays_of(path)
    else:
        words, vectors = lines_of(path)
    if vectors.ndim != 2 or len(words) != len(vectors) or not len(words):
        raise UserError(f"{path} has {len(words)} words and vectors {list(vectors.shape)}, which do not fit together")
    if not np.isfinite(vectors).all():
        row = int((~np.isfinite(vectors).all(axis=1)).argmax())
        raise UserError(f"{path}: the vector of {words[row]!r} has a number that is not finite")
    return once(words, vectors)


def once(words: list[str], vectors: Vectors) -> WordVectors:
    """Return each word with its first vector."""
    first = {word: row for row, word in reversed(list(enumerate(words)))}
    if len(first) == len(words):
        return WordVectors(words, vectors)
    rows = sorted(first.values())
    return WordVectors([words[row] for row in rows], vectors[rows])


def lines_of(path: Path) -> tuple[list[str], Vectors]:
    """Return words and vectors of a text file."""
    words, rows, length = [], [], 0
    with readable(path):
        for number, line in numbered_lines(path):
            fields = line.split(" ")
            if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                length = int(fields[1])  # word2vec's head
                continue
            length = length or numbers_at_end(fields)
            word = " ".join(fields[:-length])
            try:
                row = np.array(fields[-length:], dtype=np.float32)
            except ValueError:
                row = np.zeros(0, dtype=np.float32)
            if not word or len(row) != length:
                raise UserError(f"{path}, line {number}: expected a word and {length} numbers, found {line[:60]!r}")
            words.append(word)
            rows.append(row)
    return words, np.stack(rows) if rows else np.zeros((0, 0), dtype=np.float32)


def numbers_at_end(fields: list[str]) -> int:
    """Return D, given the fields of the first line: what follows the word; at least 1."""
    count = 0
    while count < len(fields) - 1 and is_number(fields[-1 - count]):
        count += 1
    return max(count, 1)


def is_number(field: str) -> bool:
    """Whether a field reads as a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers from 1."""
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n ")
            except UnicodeDecodeError as error:
                raise UserError(f"{path}, line {number} is not UTF-8 ({error.reason}): convert the file") from None
            if text:
                yield number, text


def arrays_of(path: Path) -> tuple[list[str], Vectors]:
    """Return words and vectors of a file of NumPy's, without unpickling anything."""
    with readable(path):
        loaded = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            beside = path.with_suffix(".txt")
            if not beside.is_file():
                raise UserError(f"{path} has vectors only: put its words into {beside}, one a line")
            return [line for _, line in numbered_lines(beside)], loaded.astype(np.float32)
        with loaded as arrays:
            missing = {"words", "vectors"} - set(arrays.files)
            if missing:
                raise UserError(f"{path} has arrays {arrays.files}, expected words and vectors")
            words, vectors = arrays["words"], arrays["vectors"]
    if words.dtype.kind != "U" or vectors.dtype.kind not in "fiu":
        raise UserError(f"{path} has words {words.dtype} and vectors {vectors.dtype}, expected strings and numbers")
    return words.tolist(), vectors.astype(np.float32)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn the errors of a damaged or foreign file into one that says what was expected."""
    try:
        yield
    except UserError:
        raise
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        reason = str(error)
        if "pickle" in reason.lower():  # NumPy's word for an array of objects
            reason = "it holds Python objects, which could execute code when read; save words as strings (dtype U)"
        raise UserError(f"{path} cannot be read as word vectors: {reason}") from error
