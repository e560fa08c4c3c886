"""Reads what W&B has written: its ``.wandb`` files are logs of protobuf records, in LevelDB's format."""

import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from wandb.proto.wandb_internal_pb2 import Record

STEP = "trainer/global_step"
FILE_HEADER, BLOCK, CHUNK_HEADER = 7, 32768, 7
WHOLE, LAST = 1, 4  # kinds of chunk that end a record


class Part(NamedTuple):
    """One folder that W&B has written: a run, or a part of one that was interrupted.

    Attributes:
        folder: where it is.
        run: the record that opens it.
        rows: ``(number, values by name)`` of each row of the history.
        summary: the latest value of each entry.
        config: by name.
        tags: the latest.
    """

    folder: Path
    run: Any
    rows: list[tuple[int, dict[str, Any]]]
    summary: dict[str, Any]
    config: dict[str, Any]
    tags: list[str]


def read_parts(run_dir: Path) -> list[Part]:
    """Return all parts in a run folder, in the order in which they were begun."""
    import wandb  # a second, at collection too

    wandb.teardown()  # its service may still be writing when a run has been finished
    files = (run_dir / "wandb").glob("*run-*/*.wandb")  # but not the link to the latest
    return sorted(map(read_part, files), key=lambda part: part.run.start_time.ToNanoseconds())


def read_part(path: Path) -> Part:
    """Read one ``.wandb`` file."""
    part = Part(path.parent, None, [], {}, {}, [])
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "history":
            part.rows.append((record.history.step.num, items(record.history.item)))
        elif kind == "summary":
            part.summary.update(items(record.summary.update))
        elif kind == "config":
            part.config.update(items(record.config.update))
        elif kind == "run":
            part.config.update(items(record.run.config.update))
            part = part._replace(run=part.run or record.run, tags=list(record.run.tags))
    return part


def items(listed: Any) -> dict[str, Any]:
    """Return names and values."""
    return {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in listed}


def records(path: Path) -> "list[Record]":
    """Return all records that are whole: a run that was killed may have cut the last one."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, body, found = path.read_bytes(), FILE_HEADER, b"", []
    while position + CHUNK_HEADER <= len(data):
        if BLOCK - position % BLOCK < CHUNK_HEADER:  # too little is left of the block for a chunk
            position += BLOCK - position % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + CHUNK_HEADER])
        position += CHUNK_HEADER + length
        if kind == 0 or position > len(data):
            break
        body += data[position - length : position]
        if kind in (WHOLE, LAST):
            record = Record()
            record.ParseFromString(body)
            found.append(record)
            body = b""
    return found
