"""Writers of miniature data sets in the real on-disk formats, so that the real readers run on them."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

DRAWINGS = 20  # of a character, as in the real Omniglot


def write_omniglot(root: Path, characters: Sequence[int] = (16, 5, 5), zipped: bool = True) -> Path:
    """Write ``images_background`` and ``images_evaluation`` with their drawings, and lists of a split.

    Use it by ``Omniglot(root=root, splits=<what is returned>)``. With rotations there are four times the classes.

    Args:
        root: folder to write to; made if need be.
        characters: how many characters the training, validation and test split have.
        zipped: write archives, else folders.

    Returns:
        The folder with ``train.txt``, ``val.txt`` and ``test.txt``.
    """
    splits = root / "miniature-split"
    splits.mkdir(parents=True)
    drawings: dict[str, bytes] = {}
    first = 1
    for split, count in zip(("train", "val", "test"), characters, strict=True):
        half = "images_evaluation" if split == "test" else "images_background"
        names = [f"Alphabet_of_{split}/character{number + 1:02}" for number in range(count)]
        (splits / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
        for number, name in enumerate(names, start=first):
            for drawing, png in enumerate(_character(number), start=1):
                drawings[f"{half}/{name}/{number:04}_{drawing:02}.png"] = png
        first += count
    for half in ("images_background", "images_evaluation"):
        own = {name: png for name, png in drawings.items() if name.startswith(half)}
        if zipped:
            write_zip(root / f"{half}.zip", own)
        else:
            write_folder(root, own)
    return splits


def write_zip(path: Path, files: dict[str, bytes]) -> None:
    """Write an archive with these members."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)


def read_zip(path: Path) -> dict[str, bytes]:
    """Return the members of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write_folder(root: Path, files: dict[str, bytes]) -> None:
    """Write these files below ``root``."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _character(number: int) -> Iterator[bytes]:
    """Yield the drawings of a character: a few black lines on white, 105x105, 1 bit."""
    corners = np.random.default_rng(number).uniform(15, 90, size=(5, 2))
    for drawing in range(DRAWINGS):
        moved = corners + np.random.default_rng([number, drawing]).normal(0, 3, size=corners.shape)
        image = Image.new("1", (105, 105), 1)
        ImageDraw.Draw(image).line([(float(x), float(y)) for x, y in moved], fill=0, width=3)
        file = io.BytesIO()
        image.save(file, "PNG")
        yield file.getvalue()


def write_photos(root: Path, classes: Sequence[str], photos: int = 12) -> list[Path]:
    """Write ``root/<class>/*`` in sizes and formats as people have them, and return the files of good images.

    The first classes have one file each that is unusual: CMYK, turned by EXIF, 16-bit, animated.
    """
    written = []
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for photo in range(photos):
            image = _photo(sum(name.encode()) * 31 + len(name), number, photo)
            path = root / name / f"IMG_{photo:04}"
            written.append(_save(image, path, UNUSUAL[number] if photo == 0 and number < len(UNUSUAL) else ""))
    return written


UNUSUAL = ("cmyk", "exif", "16bit", "animated")


def _photo(seed: int, number: int, photo: int) -> Image.Image:
    """Return a picture of a class: spots of two colours that only this class has, on any background."""
    of_class, own = np.random.default_rng(seed), np.random.default_rng([seed, number, photo])
    width, height = (int(side) for side in own.integers(60, 110, size=2))
    image = Image.new("RGB", (width, height), tuple(own.integers(90, 160, size=3).tolist()))
    colours, sides = of_class.integers(0, 256, size=(2, 3)).tolist(), of_class.uniform(0.15, 0.6, size=2)
    for spot in range(6):
        x, y = own.uniform(0, 0.8, size=2) * (width, height)
        side = sides[spot % 2] * min(width, height)
        draw = ImageDraw.Draw(image)
        (draw.ellipse if spot % 2 else draw.rectangle)((x, y, x + side, y + side), fill=tuple(colours[spot % 2]))
    return image


def _save(image: Image.Image, path: Path, kind: str) -> Path:
    suffix = {"cmyk": ".jpg", "exif": ".JPG", "16bit": ".png", "animated": ".gif"}.get(kind)
    path = path.with_suffix(suffix or (".jpg", ".png", ".webp", ".bmp")[int(path.name[-1]) % 4])
    if kind == "cmyk":
        image.convert("CMYK").save(path)
    elif kind == "exif":
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        image.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    elif kind == "16bit":
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(path)
    elif kind == "animated":
        image.save(path, save_all=True, append_images=[image.rotate(90)])
    else:
        image.save(path)
    return path


ISIC = ("MEL", "NV", "BCC", "AKIEC", "BKL", "DF", "VASC")
FINDINGS = ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax")


def write_isic(root: Path, each: int = 8) -> Path:
    """Write task 3 of ISIC 2018: a table with a column for each class, names without suffix; return the table."""
    folder = root / "ISIC2018_Task3_Training_Input"
    folder.mkdir(parents=True)
    lines = ["image," + ",".join(ISIC)]
    for number in range(len(ISIC) * each):
        name, label = f"ISIC_{24306 + number:07}", number % len(ISIC)
        _photo(label, label, number).save(folder / f"{name}.jpg")
        lines.append(name + "".join(f",{float(label == column)}" for column in range(len(ISIC))))
    (folder / "ATTRIBUTION.txt").write_text("...")
    table = root / "ISIC2018_Task3_Training_GroundTruth.csv"
    table.write_text("\n".join(lines))
    return table


def write_chestx(root: Path, each: int = 8, folders: Sequence[str] = ("images",)) -> Path:
    """Write ChestX-ray8: grey images in folders, a table with one or several findings for each; return the table."""
    findings = [*FINDINGS, "No Finding", "Effusion|Mass", "Hernia"]
    lines = ["Image Index,Finding Labels,Follow-up #,Patient ID,OriginalImage[Width,Height],"]
    for number in range(len(findings) * each):
        name, label = f"{number:08}_000.png", number % len(findings)
        folder = root / folders[number % len(folders)]
        folder.mkdir(parents=True, exist_ok=True)
        _photo(label, label, number).convert("L").save(folder / name)
        lines.append(f"{name},{findings[label]},0,{number},2682,2749,")
    table = root / "Data_Entry_2017.csv"
    table.write_text("\n".join(lines))
    return table
