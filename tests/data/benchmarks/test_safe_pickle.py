"""Pickles of images and labels are read, in every dialect; those that call code are not."""

import io
import os
import pickle
import tracemalloc
from collections import OrderedDict, defaultdict

import numpy as np
import pytest

from metalit.data.benchmarks.safe_pickle import load_pickle, read_pickle
from metalit.errors import UserError

CONTENT = {
    "data": np.arange(48, dtype=np.uint8).reshape(2, 2, 4, 3),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "every_other": np.arange(10)[::2],
    "none": np.zeros((0, 3)),
    "big_endian": np.arange(3, dtype=">i4"),
    "text": np.array(["ab", "c"]),
    "objects": np.array(["a", {"x": 1}, None], dtype=object),
    "number": np.int64(5),
    "labels": [1, 2],
    "rows": OrderedDict(n01=[0, 1]),
    "more": defaultdict(list, n02=[2]),
    b"bytes": b"\xff\x00",
    "mutable": bytearray(b"12"),
}


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


class Sets:
    def __reduce__(self):
        return object.__new__, (Sets,), {"x": 1}

    def __setstate__(self, state):
        raise AssertionError("must not run")


def read(content):
    return load_pickle(io.BytesIO(content), "some.pkl")


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, np.ndarray):
            assert found[key].dtype.newbyteorder("=") == value.dtype.newbyteorder("=")
        assert np.array_equal(found[key], value), key


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol(protocol):
    assert_same(read(pickle.dumps(CONTENT, protocol)), CONTENT)


@pytest.mark.parametrize("protocol", range(4))
def test_names_of_numpy_1(protocol):
    # protocol 4 counts the bytes of names, so theirs cannot be replaced by others of another length
    stream = pickle.dumps(CONTENT, protocol).replace(b"numpy._core.", b"numpy.core.")
    assert b"numpy.core.multiarray" in stream
    assert_same(read(stream), CONTENT)


def test_strings_and_arrays_of_python_2():
    # what cPickle 2.7 writes of {"data": array([[1, 255]], uint8), "class": "\xe9"}: bytes as text, no unicode
    stream = (
        b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b"
        b"\x87Rq\x05(K\x01K\x01K\x02\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x02\x01\xfftbU\x05classU\x01\xe9u."
    )
    found = read(stream)
    assert found["class"] == "é"
    assert found["data"].tolist() == [[1, 255]]


PAYLOADS = {
    "system": Calls(os.system, "echo called >&2"),
    "eval": Calls(eval, "1/0"),
    "getattr": Calls(getattr, os, "system"),
    "state": Sets(),
    "partial": Calls(__import__("functools").partial, os.system, "echo"),
    "file": Calls(open, "/tmp/never", "w"),
    "array of objects": np.array([1, Calls(os.system, "echo called >&2")], dtype=object),
    "deep": {"data": [{"x": (Calls(os.system, "echo called >&2"),)}]},
}


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", PAYLOADS)
def test_code_is_refused(name, protocol, capfd, monkeypatch):
    if name == "getattr":
        monkeypatch.setattr(os, "__reduce__", None, raising=False)
        stream = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."
    else:
        stream = pickle.dumps(PAYLOADS[name], protocol)
    with pytest.raises(UserError, match=r"some\.pkl: the pickle wants to use \w+\.\w+"):
        read(stream)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I1000000000000\ntS'b'\ntR.", "declares an array"),
        (b"cbuiltins\nbytearray\n(I1000000000000\ntR.", "makes bytes of a int"),
        (b"cbuiltins\nbytes\n(I1000000000000\ntR.", "makes bytes of a int"),
        (b"cnumpy\nndarray\n(I1000000000000\ntR.", "damaged or no pickle"),
        (b"cnumpy\ndtype\n(S'V1000000000'\ntR.", "array of type 'V1000000000'"),
        (b"cnumpy\ndtype\n(S'f4,O'\ntR.", "array of type 'f4,O'"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encoded as 'zip'"),
        (b"ccollections\ndefaultdict\n(c_codecs\nencode\ntR.", "defaultdict of"),
        (b"P123\n.", "objects outside it"),
        (b"ccollections\nOrderedDict\n(tR}U\x01xK\x05sb.", "sets attributes of an object"),
        (b"(cbuiltins\nlist\no.", "damaged or no pickle"),
        (b"(ibuiltins\nlist\n.", "damaged or no pickle"),
        (b"cbuiltins\nset\n)\x81.", "damaged or no pickle"),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b"abc.", "damaged or no pickle"),
        (b"", "damaged or no pickle"),
        (b"\x80\x02}q\x00(U\x04data", "damaged or no pickle"),
        (b"\n  <!DOCTYPE html><html><title>Quota exceeded</title>", "is a web page"),
        (b"<html>", "is a web page"),
        (b"PK\x03\x04", "damaged or no pickle"),
    ],
)
def test_what_cannot_be_read_is_said(stream, reason):
    with pytest.raises(UserError, match=rf"some\.pkl.*{reason}"):
        read(stream)


def test_a_huge_number_of_an_object_takes_no_memory():
    """C's unpickler makes room for twice as many objects: 64 GB for the largest number."""
    tracemalloc.start()
    assert read(b"\x80\x02K\x07r\xff\xff\xff\xffj\xff\xff\xff\xff.") == 7
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("name", ["numpy\nndarray", "numpy\ndtype", "_codecs\nencode"])
def test_what_a_pickle_may_name_stays_as_it_is(name):
    """Otherwise it would change how later files are read."""
    with pytest.raises(UserError, match="sets attributes of an object"):
        read(f"c{name}\nN".encode() + b"}U\x0c__defaults__K\x05s\x86b.")
    assert read(pickle.dumps(b"\xff", 2)) == b"\xff"


def test_a_few_bytes_do_not_ask_for_many_copies():
    large = b"\x80\x02X\x00\x00\x01\x00" + b"x" * (1 << 16) + b"\x85q\x01"
    call = b"c_codecs\nencode\nh\x01R"
    assert read(large + call + b".") == b"x" * (1 << 16)
    with pytest.raises(UserError, match="makes more than it holds"):
        read(large + 100 * call + b".")


@pytest.mark.parametrize("start", [b"cnumpy\ndtype\n", b"ccollections\ndefaultdict\n"])
def test_tuples_in_tuples_are_not_written_into_a_message(start):
    """This one has 2^60 parts."""
    twice = b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(60))
    with pytest.raises(UserError, match=r"type tuple|defaultdict of tuple"):
        read(b"\x80\x02" + start + b")q\x000" + twice + b"h<\x85R.")


@pytest.mark.parametrize("protocol", [2, 5])
def test_array_larger_than_its_bytes(protocol):
    stream = pickle.dumps(np.zeros((200, 3), np.uint8), protocol)
    assert stream.count(b"K\xc8K\x03\x86") == 1
    with pytest.raises(UserError, match=r"declares an array \[251, 3\] of uint8 but does not hold as many bytes"):
        read(stream.replace(b"K\xc8K\x03\x86", b"K\xfbK\x03\x86"))


def test_the_file_is_named(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(PAYLOADS["system"]))
    with pytest.raises(UserError, match=str(tmp_path / "a.pkl")):
        read_pickle(tmp_path / "a.pkl")
