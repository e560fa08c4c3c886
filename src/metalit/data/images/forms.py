"""Which form the files in a folder have."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metalit.data.class_splits import SPLIT_NAMES
from metalit.data.columns import Columns
from metalit.data.images.folders import Folders, has_splits
from metalit.data.images.listing import Source
from metalit.data.images.manifests import Manifest
from metalit.data.images.parquet import Parquet
from metalit.data.images.shards import Shards
from metalit.errors import SettingError

Form = Literal["auto", "folders", "splits", "manifest", "imagefolder", "parquet", "webdataset"]
METADATA = ("metadata.csv", "metadata.jsonl")
MANIFESTS = ("labels.csv", "labels.jsonl", "manifest.csv", "manifest.jsonl", "labels.tsv")
TABLES = (".csv", ".tsv", ".jsonl")


@dataclass(frozen=True)
class Told:
    """What the user says about tables.

    Attributes:
        columns: columns that have unusual names.
        hot: columns of a one-hot label.
        image_dir: pattern of the folders of their images.
    """

    columns: Columns
    hot: Sequence[str] = ()
    image_dir: str | None = None

    def table(self, root: Path, files: Sequence[Path], split_by_folder: bool = False) -> Manifest:
        """Return the data set in tables."""
        return Manifest(root, files, self.columns, self.hot, self.image_dir or "images", split_by_folder)

    def no_table(self) -> None:
        """Refuse what only tables have."""
        if self.hot:
            raise SettingError("columns", f"label: {list(self.hot)}", "one column, for these images are in no table")
        if self.image_dir is not None:
            raise SettingError("image_dir", self.image_dir, "null, for these images are in no table")


def find_source(root: Path, form: Form, told: Told, cache: Path) -> Source:
    """Return the data set in a folder or file.

    Args:
        root: the folder, or the table, parquet file or tar file itself.
        form: the form; ``auto`` looks for a table, metadata, parquet and tar files, and else takes folders.
        told: what the user says about tables.
        cache: folder for an index.

    Raises:
        SettingError: there is no such folder or file, or it has not this form.
    """
    if root.is_file():
        return _of_files([root], root.parent, told, cache)
    if not root.is_dir():
        raise SettingError("root", root, "a folder with <class>/*.jpg, or a table that lists images; there is none")
    if form == "auto":
        form = _form_of(root)
    if form in ("folders", "splits"):
        told.no_table()
        return Folders(root, form == "splits")
    files = _files(root, form)
    if not files:
        raise SettingError("form", form, f"a form that {root} has: it has {_wanted(form)}")
    if form == "imagefolder":
        return told.table(root, files, split_by_folder=True)
    return _of_files(files, root, told, cache)


def _form_of(root: Path) -> Form:
    forms: tuple[Form, ...] = ("manifest", "imagefolder", "parquet", "webdataset")
    found = next((form for form in forms if _files(root, form)), None)
    return found or ("splits" if has_splits(root) else "folders")


def _files(root: Path, form: Form) -> list[Path]:
    if form == "manifest":
        return [root / name for name in MANIFESTS if (root / name).is_file()][:1]
    # beside the images, in the folders of splits, or in Hugging Face's folder "data"
    inner = [each for each in sorted(root.iterdir()) if each.is_dir() and each.name.lower() in (*SPLIT_NAMES, "data")]
    folders = [root, *inner, *(each / split for each in inner if each.name == "data" for split in SPLIT_NAMES)]
    if form == "imagefolder":
        return [folder / name for folder in folders for name in METADATA if (folder / name).is_file()]
    pattern = "*.parquet" if form == "parquet" else "*.tar"
    return [file for folder in folders for file in sorted(folder.glob(pattern)) if not file.name.startswith(".")]


def _of_files(files: Sequence[Path], root: Path, told: Told, cache: Path) -> Source:
    suffix = files[0].suffix.lower()
    if suffix in TABLES:
        return told.table(root, files)
    if suffix in (".parquet", ".tar"):
        told.no_table()
    if suffix == ".parquet":
        return Parquet(root, files, told.columns)
    if suffix == ".tar":
        return Shards(root, files, told.columns, cache)
    expected = f"a folder, or a file with one of the endings {', '.join([*TABLES, '.parquet', '.tar'])}"
    raise SettingError("root", files[0], expected)


def _wanted(form: Form) -> str:
    names = {"manifest": " or ".join(MANIFESTS), "imagefolder": " or ".join(METADATA), "parquet": "*.parquet"}
    return f"no {names.get(form, '*.tar')}"
