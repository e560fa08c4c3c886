"""Writers of the published image data sets in miniature: every class of the splits, few small images, real formats."""

import io
import json
import pickle
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from metalit.data.splits import published_classes, published_files
from metalit.data.stream import SPLITS

Classes = dict[str, dict[str, np.ndarray]]  # class -> file name -> image [size, size, 3]


def images_of(data_set: str, split: str, per_class: int, size: int) -> Classes:
    """Return images ``[size, size, 3]`` by class and file name, the same at every call."""
    names = published_classes(data_set)[split]
    found: Classes = {}
    for name in names:
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        files = file_names(data_set, split, name, per_class)
        found[name] = {file: generator.integers(0, 256, (size, size, 3), dtype=np.uint8) for file in files}
    return found


def file_names(data_set: str, split: str, name: str, count: int) -> list[str]:
    """Return names of files as the data set has them, sorted."""
    if data_set == "mini_imagenet":
        return [file for file, label in published_files(data_set)[split].items() if label == name][:count]
    return [f"{name.rpartition('.')[2]}_s_{number:06}.png" for number in range(count)]


def every_class(data_set: str, per_class: int, size: int) -> Classes:
    """Return the images of all splits."""
    found: Classes = {}
    for split in SPLITS:
        found |= images_of(data_set, split, per_class, size)
    return found


def stacked(classes: Classes) -> tuple[np.ndarray, list[int]]:
    """Return all images ``[n, size, size, 3]``, and the number of each one's class in the order of their names."""
    images = [image for name in sorted(classes) for image in classes[name].values()]
    return np.stack(images), [number for number, name in enumerate(sorted(classes)) for _ in classes[name]]


def write_cifar100(root: Path, per_class: int = 12, archive: bool = False) -> None:
    """Write CIFAR-100's official python files, or their archive: half of each class in either part."""
    classes = every_class("cifar_fs", per_class, 32)
    names = sorted(classes)
    contents = {
        "meta": {b"fine_label_names": [name.encode() for name in names], b"coarse_label_names": [b"all"]},
    }
    for part, first in (("train", 0), ("test", 1)):
        rows = [(number, file) for number, name in enumerate(names) for file in list(classes[name])[first::2]]
        generator = np.random.default_rng(first)
        rows = [rows[place] for place in generator.permutation(len(rows))]
        contents[part] = {
            b"data": np.stack([classes[names[n]][file].transpose(2, 0, 1).reshape(-1) for n, file in rows]),
            b"fine_labels": [number for number, _ in rows],
            b"coarse_labels": [0 for _ in rows],
            b"filenames": [file.encode() for _, file in rows],
            b"batch_label": f"{part}ing batch 1 of 1".encode(),
        }
    files = {f"cifar-100-python/{name}": pickle.dumps(content, 2) for name, content in contents.items()}
    if archive:
        with tarfile.open(root / "cifar-100-python.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return
    write_files(root, files)


def write_parquet(root: Path, per_class: int, paths: bool, names: bool = True) -> None:
    """Write CIFAR-100 as Hugging Face has it: encoded images, numbers of classes, with or without names of files."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    classes = every_class("cifar_fs", per_class, 32)
    feature = {"fine_label": {"names": sorted(classes), "_type": "ClassLabel"}, "img": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})} if names else None
    (root / "cifar100").mkdir()
    for part, own in (("train", slice(0, -1)), ("test", slice(-1, None))):
        rows = [(number, file) for number, name in enumerate(sorted(classes)) for file in list(classes[name])[own]]
        bytes_of = [encoded(classes[sorted(classes)[number]][file]) for number, file in rows]
        images = [
            {"bytes": data, "path": file if paths else None} for data, (_, file) in zip(bytes_of, rows, strict=True)
        ]
        image = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
        columns = {"img": image, "fine_label": [number for number, _ in rows], "coarse_label": [0] * len(rows)}
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, root / "cifar100" / f"{part}-00000-of-00001.parquet", row_group_size=50)


def write_labelled_pickles(root: Path, data_set: str, names: dict[str, str], per_class: int, size: int, **how) -> None:
    """Write a pickle of ``data`` and ``labels`` per split; by default as MetaOptNet's CIFAR ones, without names."""
    for split in SPLITS:
        classes = images_of(data_set, split, per_class, size)
        data, labels = stacked(classes)
        content = {"data": data, "labels": labels}
        if how.get("tables"):
            content["catname2label"] = {name: number for number, name in enumerate(sorted(classes))}
            content["label2catname"] = sorted(classes)
        if numbers := how.get("numbers"):
            content["labels"] = [numbers[sorted(classes)[label]] for label in labels]
        (root / names[split]).write_bytes(pickle.dumps(content, how.get("protocol", 2)))


def write_learn2learn_caches(root: Path, per_class: int = 12, size: int = 84) -> None:
    """Write learn2learn's ``mini-imagenet-cache-<split>.pkl``."""
    for split in SPLITS:
        classes = images_of("mini_imagenet", split, per_class, size)
        # their classes are in another order than that of the names
        order = sorted(classes, reverse=True)
        images = np.stack([image for name in order for image in classes[name].values()])
        rows = {name: list(range(at * per_class, (at + 1) * per_class)) for at, name in enumerate(order)}
        word = "validation" if split == "val" else split
        content = {"image_data": images, "class_dict": rows}
        (root / f"mini-imagenet-cache-{word}.pkl").write_bytes(pickle.dumps(content, 2))


def write_npz(root: Path, data_set: str, names: dict[str, str], per_class: int, size: int) -> None:
    """Write an npz of ``images`` and ``labels`` per split; labels are names."""
    for split in SPLITS:
        classes = images_of(data_set, split, per_class, size)
        images, labels = stacked(classes)
        np.savez(root / names[split], images=images, labels=np.array([sorted(classes)[label] for label in labels]))


def write_folders(root: Path, data_set: str, per_class: int, size: int, above: str = "{split}") -> None:
    """Write ``<above>/<class>/<file>`` as PNG, whatever the suffix, so that pixels stay."""
    for split in SPLITS:
        for name, files in images_of(data_set, split, per_class, size).items():
            folder = above.format(split=split)
            write_files(root / folder, {f"{name}/{file}": encoded(image) for file, image in files.items()})


def write_flat(root: Path, per_class: int, size: int) -> None:
    """Write miniImageNet's files in one folder, named as in Ravi's lists."""
    for split in SPLITS:
        for files in images_of("mini_imagenet", split, per_class, size).values():
            write_files(root / "images", {file: encoded(image) for file, image in files.items()})


def write_tiered(root: Path, per_class: int, size: int, arrays: bool = False) -> None:
    """Write tieredImageNet's ``<split>_images_png.pkl`` or ``<split>_images.npz``, with ``<split>_labels.pkl``."""
    for split in SPLITS:
        images, labels = stacked(images_of("tiered_imagenet", split, per_class, size))
        if arrays:
            np.savez(root / f"{split}_images.npz", images=images[..., ::-1])  # blue, green, red
        else:
            pngs = [np.frombuffer(encoded(image), np.uint8)[:, None] for image in images]
            (root / f"{split}_images_png.pkl").write_bytes(pickle.dumps(pngs, 2))
        content = {"label_specific": np.array(labels), "label_general": np.zeros(len(labels), np.int64)}
        (root / f"{split}_labels.pkl").write_bytes(pickle.dumps(content, 2))


def write_file_lists(root: Path, per_class: int, size: int) -> None:
    """Write CUB's images with CloserLookFewShot's lists, whose paths are those of another machine."""
    write_folders(root, "cub", per_class, size, "CUB_200_2011/images")
    for split, name in (("train", "base"), ("val", "val"), ("test", "novel")):
        classes = images_of("cub", split, per_class, size)
        names = published_classes("cub")[split]
        content = {
            "label_names": names,
            "image_names": [f"/home/wyharveychen/CUB/CUB_200_2011/images/{c}/{f}" for c in names for f in classes[c]],
            "image_labels": [number for number, each in enumerate(names) for _ in classes[each]],
        }
        (root / f"{name}.json").write_text(json.dumps(content))


def encoded(image: np.ndarray) -> bytes:
    """Return an image as PNG."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_files(root: Path, files: dict[str, bytes]) -> None:
    """Write these files below ``root``."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
