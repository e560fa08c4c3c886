"""Read one image file as an upright RGB image, or say why it cannot be read.

The rule, in this order:

- Only raster formats are opened (``FORMATS``). EPS is not among them: Pillow starts another program for it.
- Of an animation or a multi-page file, the first frame.
- Turned upright, by the EXIF orientation.
- 16 bits per channel are scaled to 8, 65535 becoming 255. 32-bit pixels are refused: they have no fixed range.
- Transparent pixels, of a palette too, are laid over white.
- Grey, palette, CMYK and YCbCr pixels are converted to RGB by Pillow, without colour profiles.
"""

import errno
import io
import os
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from metalit.errors import UserError

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF", "JPEG2000")
SUFFIXES = frozenset(
    [".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
     ".avif", ".jp2"]
)  # fmt: skip
# Photos that Pillow cannot read; they are reported and not skipped silently.
FOREIGN_SUFFIXES = frozenset([".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw"])
MAX_PIXELS = 150_000_000  # 450 MB as RGB; the largest phone cameras make 108 million, a decompression bomb far more
MAX_BYTES = 1 << 30
SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # "I" is what older versions of Pillow make of a 16-bit PNG
ORIENTATION = 0x0112  # number of the EXIF entry
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(source: Path | bytes | BinaryIO, name: str, at_least: int | None = None) -> Image.Image:
    """Return an image as upright RGB, by the rule of this module.

    Args:
        source: path, content or open file of the image.
        name: how the error calls it.
        at_least: both sides of the image may be reduced, to no less than this many pixels; large JPEG photos are then
            decoded several times as fast.

    Raises:
        UserError: the image cannot be read; the message is ``name: reason``.
    """
    with quiet():
        try:
            return decode(content(source), at_least)
        except Exception as error:  # see ``reason``
            raise UserError(f"{name}: {reason(error)}") from error


def content(source: Path | str | bytes | BinaryIO) -> bytes:
    """Return the bytes of an image.

    Raises:
        OSError: the file cannot be read, or is marked unreadable for all users.
        UserError: it is no regular file, or too large for an image.
    """
    if isinstance(source, bytes):
        return source
    if not isinstance(source, Path | str):
        return bytes(source.read())
    # not ``open``, which takes longer than decoding a small image, and blocks at a pipe without a writer
    file = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode):
            raise UserError("it is not a regular file")
        if not status.st_mode & 0o444:  # root, as in a container, may read it all the same, but should not
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        if status.st_size > MAX_BYTES:
            raise UserError(f"the file has {status.st_size:,} bytes, more than {MAX_BYTES:,}: is it an image?")
        return os.read(file, status.st_size)
    finally:
        os.close(file)


def decode(data: bytes, at_least: int | None = None) -> Image.Image:
    """Return the image in these bytes as upright RGB; a damaged file makes Pillow raise nearly any exception."""
    if not data:
        raise UserError("the file is empty (0 bytes)")
    with Image.open(io.BytesIO(data), formats=known_formats()) as image:
        if image.width * image.height > MAX_PIXELS:
            raise UserError(f"{image.width}x{image.height} pixels, more than {MAX_PIXELS:,}: lower its resolution")
        if at_least is not None and min(image.size) >= 2 * at_least:
            image.draft("RGB", (at_least, at_least))  # JPEG only: halves the sides while both stay that long
        image.load()
        return _upright(to_rgb(image), image)


@cache
def known_formats() -> list[str]:
    """Return those of ``FORMATS`` that this build of Pillow can read."""
    Image.init()  # Pillow loads the less common formats only then
    return [name for name in FORMATS if name in Image.OPEN]


def to_rgb(image: Image.Image) -> Image.Image:
    """Return the pixels of an image as RGB.

    Raises:
        UserError: the pixels have no fixed range.
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode in SIXTEEN_BITS:
        return _from_16_bits(image)
    if image.mode == "F":
        raise UserError("32-bit pixels have no fixed range: save it with 8 or 16 bits per channel")
    if image.has_transparency_data:
        # not ``alpha_composite``: an opaque result keeps the pixels of opaque images bit by bit
        seen = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(seen, mask=seen.getchannel("A"))
        return white
    return image.convert("RGB")


def reason(error: BaseException) -> str:
    """Return in words why an image cannot be read."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        return f"it has far more than {MAX_PIXELS:,} pixels, by its header: lower its resolution"
    if isinstance(error, UnidentifiedImageError):
        return f"it is not a whole image in any of the formats {', '.join(known_formats())}"
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    if isinstance(error, MemoryError):
        return "it does not fit into memory"
    return f"it is damaged ({str(error).strip() or type(error).__name__})"


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Pillow's warnings about single files: what matters becomes an error or does not change the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _upright(pixels: Image.Image, source: Image.Image) -> Image.Image:
    # most small JPEG files have neither, and looking takes a tenth of their decoding
    if source.format == "JPEG" and not source.info.keys() & {"exif", "xmp"}:
        return pixels
    try:
        orientation = source.getexif().get(ORIENTATION)
    except Exception:  # damaged EXIF data say nothing about the pixels
        return pixels
    turn = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return pixels if turn is None else pixels.transpose(turn)


def _from_16_bits(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
        raise UserError("32-bit pixels have no fixed range: save it with 8 or 16 bits per channel")
    return Image.fromarray(((values * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
