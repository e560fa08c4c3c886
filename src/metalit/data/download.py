"""Download of a file, with checksum and progress bar."""

import hashlib
import urllib.request
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError

from tqdm import tqdm

from metalit.errors import SettingError, UserError
from metalit.files import atomic_write

CHUNK = 1 << 16
TIMEOUT = 30.0  # seconds without a response


def download(url: str, path: Path, md5: str, root: Path) -> None:
    """Download ``url`` to ``path``. Processes may do so concurrently; ``path`` never holds an incomplete file.

    Args:
        url: address of the file.
        path: path of the downloaded file.
        md5: checksum of the file, in hexadecimal.
        root: the folder that the user gave as ``root``, for the error message.

    Raises:
        SettingError: no network, no such address or no disk space; the message says which file to put where.
        UserError: the checksum does not match.
    """
    # FIPS builds of Python refuse MD5 unless it is declared not to serve security
    digest = hashlib.md5(usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response, atomic_write(path) as file:
            # without a length, the bar has no total and counts only
            size = int(response.headers.get("Content-Length") or 0)
            with tqdm(total=size or None, unit="B", unit_scale=True, desc=path.name, disable=None) as bar:
                while chunk := response.read(CHUNK):
                    file.write(chunk)
                    digest.update(chunk)
                    bar.update(len(chunk))
            # inside atomic_write, whose temporary file the error removes: a wrong file never reaches its place
            if digest.hexdigest() != md5:
                raise UserError(
                    f"{url} came with md5 {digest.hexdigest()}, expected {md5}: the transfer was "
                    f"damaged or the file has changed; try again, or put a sound copy at {path}"
                )
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection
        raise SettingError(
            "root",
            root,
            f"a folder with {path.relative_to(root)}, which could not be fetched from {url} ({error}): fetch it on a "
            f"machine with a network, as {path}",
        ) from error
