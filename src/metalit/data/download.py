"""Fetching a file once, with checksum and progress bar."""

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path

from tqdm import tqdm

from metalit.data.cache import atomic_write
from metalit.errors import UserError

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without an answer


def download(url: str, path: Path, md5: str, root: Path) -> None:
    """Fetch ``url`` to ``path``; processes may do so at once, and ``path`` never holds half a file.

    Args:
        url: where the file is.
        path: where to put it.
        md5: checksum of the file, in hexadecimal.
        root: the folder that the user named as ``root``.

    Raises:
        FileNotFoundError: no network, no such address or no room; says what to put where.
        ValueError: the checksum of what came is another one.
    """
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, atomic_write(path) as file:
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=path.name, disable=None) as bar:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
            if digest.hexdigest() != md5:
                raise UserError(
                    f"{url} came with md5 {digest.hexdigest()}, expected {md5}: the transfer was "
                    f"damaged or the file has changed; try again, or put a sound copy at {path}"
                )
    except (OSError, HTTPException) as error:
        raise FileNotFoundError(
            f"data.root is {root}, but {path} does not exist and could not be fetched from {url} ({error}): fetch it "
            "on a machine with a network and put it there, or name another folder"
        ) from error
