"""One image file becomes an upright RGB image by a stated rule, or one message with its name and the reason."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from metalit.data.images import Resize, read_image
from metalit.data.images.reading import MAX_PIXELS
from metalit.errors import SettingError, UserError

RED, WHITE = [255, 0, 0], [255, 255, 255]


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(data):
    image = read_image(data, "it")
    assert image.mode == "RGB"
    return np.asarray(image)


def halves():
    """Left half red, right half blue, 8 wide and 4 high."""
    image = Image.new("RGB", (8, 4), "red")
    image.paste("blue", (4, 0, 8, 4))
    return image


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_header(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation):
    upright = halves()
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    as_taken = upright if orientation == 1 else upright.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels(encoded(as_taken, exif=exif)), np.asarray(upright))


def test_16_bits_are_scaled():
    grey = Image.fromarray(np.array([[0, 257, 32768, 65535]], dtype=np.uint16))
    assert pixels(encoded(grey))[0, :, 0].tolist() == [0, 1, 128, 255]
    assert pixels(encoded(grey, "TIFF"))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_transparent_pixels_lie_over_white():
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 255))
    image.putpixel((1, 0), (255, 0, 0, 0))
    assert pixels(encoded(image))[0].tolist() == [RED, WHITE]
    palette = image.convert("RGB").convert("P")
    assert pixels(encoded(palette, transparency=palette.getpixel((0, 0))))[0].tolist() == [WHITE, WHITE]
    assert pixels(encoded(palette))[0].tolist() == [RED, RED]


@pytest.mark.parametrize(("mode", "kind"), [("CMYK", "JPEG"), ("L", "PNG"), ("1", "PNG"), ("LA", "PNG"), ("P", "GIF")])
def test_other_pixels_become_rgb(mode, kind):
    image = Image.new("RGB", (16, 16), "white").convert(mode)
    assert pixels(encoded(image, kind)).min() >= 254


def test_of_an_animation_the_first_frame_counts():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "PNG", "TIFF"):
        data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert pixels(data)[0, 0].tolist() == RED, kind


def test_damaged_exif_data_do_not_matter():
    data = encoded(halves(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert pixels(data).shape == (4, 8, 3)


def test_large_photos_are_decoded_smaller_but_not_too_small():
    data = encoded(Image.effect_noise((1600, 1200), 50).convert("RGB"), "JPEG")
    assert read_image(data, "it", at_least=168).size == (400, 300) or min(read_image(data, "it", 168).size) >= 168
    assert read_image(data, "it").size == (1600, 1200)


PNG = encoded(Image.effect_noise((64, 64), 50))
JPEG = encoded(Image.effect_noise((64, 64), 50), "JPEG")
BAD = {
    "empty": (b"", "0 bytes"),
    "text": (b"This is not an image", "not a whole image in any of the formats JPEG"),
    "html": (b"<!DOCTYPE html><html></html>", "not a whole image in any"),
    "truncated png": (PNG[: len(PNG) // 2], "damaged"),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], "truncated"),
    "header alone": (PNG[:33], "not a whole image"),
    "wrong checksum": (PNG[:60] + b"\0\0\0\0" + PNG[64:], "damaged"),
    "huge header": (png_header(30_000, 30_000), f"{MAX_PIXELS:,} pixels"),
    "bomb": (png_header(13_000, 12_500), "13000x12500 pixels"),
    "postscript": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a whole image in any"),
    "floats": (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "no fixed range"),
    "long numbers": (encoded(Image.new("I", (4, 4), 70_000), "TIFF"), "no fixed range"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_image_is_named_with_its_reason(name):
    data, why = BAD[name]
    with pytest.raises(UserError, match=r"^cat/1\.jpg: ") as error:
        read_image(data, "cat/1.jpg")
    assert why in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_files_that_cannot_be_opened_are_named(tmp_path):
    pipe, locked, missing = tmp_path / "pipe.png", tmp_path / "locked.png", tmp_path / "missing.png"
    os.mkfifo(pipe)
    locked.write_bytes(PNG)
    locked.chmod(0)
    for path, why in ((pipe, "not a regular file"), (locked, "Permission denied"), (missing, "No such file")):
        with pytest.raises(UserError, match=f"^{path.name}: .*{why}"):
            read_image(path, path.name)


def test_a_file_an_open_file_and_its_bytes_are_the_same(tmp_path):
    (tmp_path / "a.png").write_bytes(PNG)
    one, other = read_image(tmp_path / "a.png", "a"), read_image(io.BytesIO(PNG), "a")
    assert one.tobytes() == other.tobytes() == read_image(PNG, "a").tobytes()


def test_crop_takes_the_middle_and_pad_keeps_everything():
    image = Image.new("RGB", (30, 10), "red")
    image.paste("blue", (10, 0, 20, 10))
    assert np.array_equal(Resize(10, "crop")(image), np.asarray(image.crop((10, 0, 20, 10))).transpose(2, 0, 1))
    padded = Resize(30, "pad")(image)
    assert padded.shape == (3, 30, 30)
    assert np.array_equal(padded[:, 10:20], np.asarray(image).transpose(2, 0, 1))
    assert padded[:, :10].max() == padded[:, 20:].max() == 0
    assert Resize(9, "squash")(image)[:, 4, 4].tolist() == [0, 0, 255]


def test_an_image_of_that_size_stays_as_it_is():
    image = Image.effect_noise((20, 20), 80).convert("RGB")
    for fit in ("crop", "pad", "squash"):
        assert np.array_equal(Resize(20, fit)(image), np.asarray(image).transpose(2, 0, 1))


def test_thin_images_do_not_fill_the_memory():
    for fit in ("crop", "pad", "squash"):
        assert Resize(84, fit)(Image.new("RGB", (1, 60_000))).shape == (3, 84, 84)


@pytest.mark.parametrize(
    ("settings", "name"), [({"size": 0}, "size"), ({"size": 5000}, "size"), ({"size": 9, "fit": "x"}, "fit")]
)
def test_settings_out_of_range_are_refused(settings, name):
    with pytest.raises(SettingError) as error:
        Resize(**settings)
    assert error.value.name == name
