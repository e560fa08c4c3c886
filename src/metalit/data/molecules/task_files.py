"""The files of FS-Mol's tasks: folders of them, and the list of those that count."""

import json
from pathlib import Path

from metalit.data.molecules.lines import SUFFIX
from metalit.data.stream import Split
from metalit.errors import SettingError

FOLDERS: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
WHERE = (
    "get the archive from https://figshare.com/ndownloader/files/31345321 (FS-Mol, licence CC BY-SA 3.0, see "
    "https://github.com/microsoft/FS-Mol) and unpack it there"
)
LIST = "https://github.com/microsoft/FS-Mol/blob/main/datasets/fsmol-0.1.json"


def task_files(root: Path, split: Split, task_list: str | None) -> list[Path]:
    """Return the files of a split's tasks, sorted by name.

    Args:
        root: the folder with ``train``, ``valid`` and ``test``.
        split: the split.
        task_list: file with the tasks of each split, in ``root`` or anywhere; None takes every file.

    Raises:
        SettingError: there is no file or no list, or a task that is on the list has no file.
    """
    folder = root / FOLDERS[split]
    # macOS leaves "._name" beside files copied to other file systems
    found = {path.name.removesuffix(SUFFIX): path for path in sorted(folder.glob(f"[!.]*{SUFFIX}"))}
    if not found:
        expected = f"a folder with {FOLDERS[split]}/<assay>{SUFFIX}; there is none in {folder}: {WHERE}"
        raise SettingError("data.root", root, expected)
    if task_list is None:
        return list(found.values())
    wanted = listed_tasks(root, task_list)[split]
    if missing := [name for name in wanted if name not in found]:
        raise SettingError(
            "data.root",
            root,
            f"a folder with the {len(wanted)} tasks of {task_list} in {FOLDERS[split]}; {len(missing)} are missing, "
            f"such as {missing[0]}{SUFFIX}: {WHERE}, or give data.task_list: null for the tasks that are there",
        )
    return [found[name] for name in sorted(set(wanted))]


def listed_tasks(root: Path, task_list: str) -> dict[Split, list[str]]:
    """Return the tasks of each split from a list in the form of ``fsmol-0.1.json``.

    Raises:
        SettingError: there is no such file, or it has another form.
    """
    path = next((each for each in (root / task_list, Path(task_list).expanduser()) if each.is_file()), None)
    if path is None:
        expected = f"a file in {root}: put {LIST} there, or give null for every task in the folders"
        raise SettingError("data.task_list", task_list, expected)
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
        return {split: [str(task) for task in listed[folder]] for split, folder in FOLDERS.items()}
    except (ValueError, KeyError, TypeError) as error:
        expected = f"JSON with a list of tasks for each of train, valid and test; {path} is not that ({error!r})"
        raise SettingError("data.task_list", task_list, expected) from error
