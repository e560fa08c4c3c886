"""CUB-200-2011: 200 species of birds, as Chen et al. (2019) divide them."""

import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from tqdm import tqdm

from metalit.data.benchmarks.base import Form, SizedBenchmark
from metalit.data.benchmarks.files import ClassFolders, FileLists
from metalit.data.download import download
from metalit.data.stream import Split
from metalit.errors import UserError

FOLDER, ARCHIVE = "CUB_200_2011", "CUB_200_2011.tgz"
URL = f"https://data.caltech.edu/records/65de6-vp158/files/{ARCHIVE}"
MD5 = "97eceeb196236b17998738112f37df78"


class CUB(SizedBenchmark):
    """CUB-200-2011 (Wah et al. 2011): 100 training, 50 validation and 50 test classes, as in Chen et al. (2019).

    ``root`` holds the official ``CUB_200_2011`` folder or its archive, any folder per class, or CloserLookFewShot's
    ``base.json``, ``val.json`` and ``novel.json`` beside the images. The official archive (1.1 GB) is downloaded and
    unpacked if none is there. Some of the images are in ImageNet too.

    Args:
        **settings: the settings of ``SizedBenchmark``: ``image_size``, ``fit`` and ``store``, and those of
            ``ClassificationDataModule``.

    Raises:
        SettingError: nothing is in ``root``, and the archive cannot be downloaded.
        UserError: files are damaged, or their classes are not those of the split.
    """

    data_set = "cub"
    folders = (FOLDER, "CUB", "cub", f"cub/{FOLDER}", f"CUB/{FOLDER}", "CUB-200-2011", "filelists/CUB")

    def forms(self) -> Sequence[Form]:
        """Return the forms, the one to prefer first."""
        return [FileLists(), ClassFolders(self.data_set)]

    def advice(self) -> str:
        """Return what to get, from where, and where to put it."""
        return f"put {URL} there"

    def fetched(self, split: Split) -> tuple[Form, list[Path]]:
        """Download the official archive to ``root`` and unpack its images."""
        archive = self.root / ARCHIVE
        if not archive.is_file():
            download(URL, archive, MD5, self.root)
        unpack(archive, self.root / FOLDER)
        form = ClassFolders(self.data_set)
        return form, form.find(self.root / FOLDER, split)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the images of the official archive; the folder appears when it is whole.

    Raises:
        UserError: the archive is damaged.
    """
    temporary = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        with tarfile.open(archive) as file:
            for member in tqdm(file, unit="files", desc=f"Unpacking {archive.name}", disable=None):
                if member.name.startswith(f"{FOLDER}/images"):
                    file.extract(member, temporary, filter="data")
        if not folder.exists():  # another process may have been faster
            (temporary / FOLDER).rename(folder)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{archive} cannot be unpacked ({error}): delete it, then it is fetched again") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
