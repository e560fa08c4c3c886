"""Pickles of data sets, read without executing anything: arrays, numbers, text and containers of them.

A pickle is a program. It names any function and calls it, so ``pickle.load`` of a file from the internet gives its
author a shell. The few names that arrays need are bound to the functions below, which check their arguments; any other
name is refused. NumPy's own functions do not serve, because ``ndarray(10**12)`` and a forged dtype are dangerous too.

The C unpickler allocates memory for as many objects as a pickle claims to hold, and sets attributes on any object that
the pickle names, these functions included. So this is the slower one written in Python, which can be overridden.
"""

import os
import pickle
import re
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import numpy.typing as npt

from metalit.errors import UserError
from metalit.private import PythonUnpickler

Array = npt.NDArray[Any]
# booleans, numbers, text, and object arrays, whose elements come through the same reader
PLAIN_TYPE = re.compile(r"[<>=|]?[?biufcSUO]\d*")
FACTORIES = (list, dict, int)  # of a defaultdict
MADE = 2  # bytes that calls may make of each byte of a file: text becomes bytes, and bytes an array
# no images and labels need these: instances of classes, and names by a number
REFUSED = (
    pickle.INST,
    pickle.OBJ,
    pickle.NEWOBJ,
    pickle.NEWOBJ_EX,
    pickle.EXT1,
    pickle.EXT2,
    pickle.EXT4,
    pickle.NEXT_BUFFER,
    pickle.READONLY_BUFFER,
)
ZIP = b"PK\x03\x04"
HTML = re.compile(rb"\s*<(!doctype|html|head|\?xml)", re.IGNORECASE)


def read_pickle(path: Path) -> Any:
    """Return the content of a pickle of protocol 0 to 5, written by Python 2 or 3 and by NumPy 1 or 2.

    Text of Python 2 is read as latin-1, so its strings and the arrays in it come out whole.

    Raises:
        UserError: it names code, is damaged, or is no pickle; the message names the file.
    """
    with path.open("rb") as file:
        return load_pickle(file, str(path))


def load_pickle(file: BinaryIO, name: str) -> Any:
    """Return the content of an open pickle; ``name`` stands in error messages.

    Raises:
        UserError: as for ``read_pickle``.
    """
    start = file.read(64)
    if HTML.match(start):
        raise UserError(
            f"{name} is a web page that was saved under this name (it begins with "
            f"{start.split(b'>')[0].decode('latin1').strip()[:20]!r}): open the address in a browser and save the file"
        )
    if start.startswith(ZIP):
        raise UserError(f"{name} is damaged or no pickle (it is a zip archive, as .npz files are): get it again")
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        return _Reader(file, size).load()
    except UserError as error:
        raise UserError(f"{name}: {error}") from None
    except Exception as error:  # a damaged pickle makes its reader raise nearly any error
        raise UserError(
            f"{name} is damaged or no pickle ({str(error) or type(error).__name__}): get it again"
        ) from error


class _Reader(PythonUnpickler):  # type: ignore[misc]  # its types are not known
    """An unpickler that knows the names of ``ALLOWED`` only.

    Args:
        file: the open pickle.
        size: its number of bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__(file, encoding="latin1")
        self.left = MADE * size

    def find_class(self, module: str, name: str) -> Any:
        if (found := ALLOWED.get((module, name))) is None:
            raise UserError(
                f"the pickle wants to use {module}.{name}, which no images and labels need, so it was not read "
                "further: do not open it with anything else"
            )
        return found

    def persistent_load(self, pid: Any) -> Any:
        raise UserError("the pickle refers to objects outside it, as no images and labels do")

    def load_reduce(self) -> None:
        """Call a function."""
        arguments = self.stack.pop()
        self.stack[-1] = self.stack[-1](*arguments)
        self._count(self.stack[-1])

    def load_build(self) -> None:
        """Set the state of an object."""
        state = self.stack.pop()
        if not isinstance(self.stack[-1], _Array | _Type):
            raise UserError("the pickle sets attributes of an object, as no images and labels do")
        self.stack[-1].__setstate__(state)
        self._count(self.stack[-1])

    def load_bytearray8(self) -> None:
        """Read bytes that can be changed, without believing their number."""
        self.append(bytearray(self.read(int.from_bytes(self.read(8), "little"))))

    def _count(self, made: Any) -> None:
        # a few bytes can ask for a copy of the same large object again and again
        self.left -= made.nbytes if isinstance(made, np.ndarray) else len(made) if isinstance(made, Sized) else 0
        if self.left < 0:
            raise UserError("the pickle makes more than it holds: get the file again")

    dispatch: ClassVar[dict[int, Any]] = {
        **{code: load for code, load in PythonUnpickler.dispatch.items() if bytes([code]) not in REFUSED},
        pickle.REDUCE[0]: load_reduce,
        pickle.BUILD[0]: load_build,
        pickle.BYTEARRAY8[0]: load_bytearray8,
    }


class _Array(np.ndarray[Any, Any]):
    """An array whose state is checked before NumPy sees it."""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, content = state
        whole = _type_of(dtype)
        count = _count(shape)
        if whole.hasobject:
            right = isinstance(content, list) and len(content) == count
        else:
            # Python 2 pickled bytes as text, which comes out as latin-1
            content = content.encode("latin1") if isinstance(content, str) else content
            right = isinstance(content, bytes) and len(content) == count * whole.itemsize
        if not right:
            raise UserError(_too_large(shape, whole))
        state = (1, shape, whole, bool(fortran), content)
        super().__setstate__(state)


class _Type:
    """A dtype in the making: its name, and the byte order that its state adds. A real dtype's state can be forged."""

    def __init__(self, name: str, *flags: Any) -> None:
        if not isinstance(name, str) or not PLAIN_TYPE.fullmatch(name):
            raise UserError(f"the pickle holds an array of type {_shown(name)}, which no images and labels have")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("<", ">", "=", "|"):
            raise UserError(f"the pickle holds an array of the byte order {_shown(state[1])}")
        self.dtype = self.dtype.newbyteorder(state[1])


class _AnyArray:
    """Stands for ``numpy.ndarray``, which pickles name and never call."""


def _type_of(dtype: Any) -> np.dtype[Any]:
    if not isinstance(dtype, _Type):
        raise UserError(f"the pickle holds an array whose type is {type(dtype).__name__}")
    return dtype.dtype


def _shown(value: Any) -> str:
    """Return a value in a message: containers by their kind, for tuples in tuples can be endless as text."""
    return repr(value)[:40] if isinstance(value, str | int | float) else type(value).__name__


def _count(shape: Any) -> int:
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise UserError(f"the pickle holds an array of shape {_shown(shape)}")
    count = 1  # not numpy's product, which overflows
    for length in shape:
        count *= length
    return count


def _too_large(shape: Any, dtype: np.dtype[Any]) -> str:
    return f"the pickle declares an array {list(shape)} of {dtype} but does not hold as many bytes: get the file again"


def _reconstruct(kind: Any, shape: Any, *_: Any) -> Array:
    """Return the empty array that a pickle makes before it gives the state."""
    if kind is not _AnyArray or _count(shape) != 0:
        raise UserError(_too_large(shape, np.dtype(np.uint8)))
    return np.ndarray.__new__(_Array, (0,), np.uint8)


def _frombuffer(content: Any, dtype: Any, shape: Any, order: Any) -> Array:
    """Return an array of protocol 5."""
    whole, count = _type_of(dtype), _count(shape)
    if whole.hasobject or not isinstance(content, bytes | bytearray) or len(content) != count * whole.itemsize:
        raise UserError(_too_large(shape, whole))
    return np.frombuffer(content, whole).reshape(shape, order="F" if order == "F" else "C")


def _scalar(dtype: Any, content: Any = b"") -> Any:
    """Return a NumPy number."""
    whole = _type_of(dtype)
    content = content.encode("latin1") if isinstance(content, str) else content
    if whole.hasobject or not isinstance(content, bytes) or len(content) != whole.itemsize:
        raise UserError(_too_large((), whole))
    return np.frombuffer(content, whole)[0]


def _encode(text: Any, encoding: Any = "latin1") -> bytes:
    """Return the bytes that Python 3 pickles as latin-1 text for protocols without bytes."""
    if not isinstance(text, str) or encoding != "latin1":
        raise UserError(f"the pickle holds text to be encoded as {_shown(encoding)}")
    return text.encode("latin1")


def _bytes(*nothing: Any) -> bytes:
    return bytes(_bytearray(*nothing))


def _bytearray(content: Any = b"", encoding: Any = "latin1") -> bytearray:
    # bytearray(10**12) would fill the memory
    if isinstance(content, str):
        content = _encode(content, encoding)
    if not isinstance(content, bytes | bytearray):
        raise UserError(f"the pickle makes bytes of a {type(content).__name__}")
    return bytearray(content)


def _defaultdict(factory: Any = None, *items: Any) -> defaultdict[Any, Any]:
    if factory is not None and factory not in FACTORIES:
        raise UserError(f"the pickle holds a defaultdict of {_shown(factory)}")
    return defaultdict(factory, *items)


# as Python 2 and 3 (list, dict) and NumPy 1 and 2 (numpy.core, numpy._core) name them
_BUILTINS: dict[str, Callable[..., Any]] = {
    "list": list,
    "dict": dict,
    "int": int,
    "set": set,
    "bytes": _bytes,
    "bytearray": _bytearray,
}
ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _AnyArray,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("collections", "OrderedDict"): OrderedDict,
    ("collections", "defaultdict"): _defaultdict,
    **{(module, name): value for module in ("builtins", "__builtin__") for name, value in _BUILTINS.items()},
    **{
        (f"numpy.{core}.{module}", name): value
        for core in ("core", "_core")
        for module, name, value in (
            ("multiarray", "_reconstruct", _reconstruct),
            ("multiarray", "scalar", _scalar),
            ("numeric", "_frombuffer", _frombuffer),
        )
    },
}
