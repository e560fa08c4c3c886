"""Writers of the same small pictures in every form in which people have theirs."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, EACH, SIZE = 30, 12, 20
NAMES = [f"class {number:02}" for number in range(CLASSES)]
SPLITS = {"train": NAMES[:18], "val": NAMES[18:24], "test": NAMES[24:]}


def png(*seed):
    """A picture of 20 x 24 pixels, as the bytes of a PNG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE + 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def pictures(classes=CLASSES, each=EACH):
    """Yield (split, class, file name, content)."""
    split_of = {name: split for split, names in SPLITS.items() for name in names}
    for number, name in enumerate(NAMES[:classes]):
        for index in range(each):
            yield split_of[name], name, f"{name} {index:03}.png", png(number, index)


def write_files(root, files):
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_flat(root, classes=CLASSES, each=EACH):
    return write_files(root, {f"{name}/{file}": data for _, name, file, data in pictures(classes, each)})


def write_splits(root):
    return write_files(root, {f"{split}/{name}/{file}": data for split, name, file, data in pictures()})


def write_meta_album(root):
    """Meta-Album's: labels.csv with renamed columns, and images beside it."""
    write_files(root / "images", {file: data for _, _, file, data in pictures()})
    lines = [f"{file},{name},{split} things" for split, name, file, _ in pictures()]
    (root / "labels.csv").write_text("\n".join(["FILE_NAME,CATEGORY,SUPER_CATEGORY", *lines]))
    return root


def write_manifest(root):
    write_files(root / "photos", {file: data for _, _, file, data in pictures()})
    lines = [json.dumps({"file": f"photos/{file}", "label": name, "split": s}) for s, name, file, _ in pictures()]
    (root / "manifest.jsonl").write_text("\n".join(lines))
    return root / "manifest.jsonl"


def write_imagefolder(root):
    """Hugging Face's: metadata.csv in the folder of each split."""
    for split in SPLITS:
        folder = root / {"val": "validation"}.get(split, split)
        mine = [each for each in pictures() if each[0] == split]
        write_files(folder, {file: data for _, _, file, data in mine})
        lines = [f"{file},{name}" for _, name, file, _ in mine]
        (folder / "metadata.csv").write_text("\n".join(["file_name,label", *lines]))
    return root


def write_parquet(root, **options):
    """Hugging Face's: a struct of bytes and path, and numbers whose names are in the schema."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    feature = {"label": {"names": NAMES, "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    metadata = {"huggingface": json.dumps({"info": {"features": feature}})}
    (root / "data").mkdir(parents=True)
    for split in SPLITS:
        mine = [each for each in pictures() if each[0] == split]
        images = [{"bytes": data, "path": file} for _, _, file, data in mine]
        table = pa.table({"image": images, "label": [NAMES.index(name) for _, name, _, _ in mine]})
        path = root / "data" / f"{ {'val': 'validation'}.get(split, split) }-00000-of-00001.parquet"
        pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=50)
    return root


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_shards(root):
    """WebDataset's: key.png beside key.cls or key.json, two shards for each split."""
    root.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        mine = [each for each in pictures() if each[0] == split]
        for shard in range(2):
            with tarfile.open(root / f"pictures-{split}-{shard:06}.tar", "w") as archive:
                for index, (_, name, file, data) in enumerate(mine[shard::2]):
                    add(archive, file, data)
                    label = json.dumps({"label": name}) if index % 2 else name
                    add(archive, file.replace(".png", ".json" if index % 2 else ".cls"), label.encode())
    return root


class Torchvision:
    """What a data set of torchvision's looks like."""

    def __init__(self, split):
        self.classes = NAMES
        mine = [each for each in pictures() if each[0] == split]
        self.data = [data for *_, data in mine]
        self.targets = [NAMES.index(name) for _, name, _, _ in mine]

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, index):
        return Image.open(io.BytesIO(self.data[index])), self.targets[index]


def write_lists(folder: Path) -> Path:
    for split, names in SPLITS.items():
        write_files(folder, {f"{split}.txt": "\n".join(names).encode()})
    return folder
