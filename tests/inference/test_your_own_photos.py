"""The page "Your own photos in five minutes": its commands and its code, as they stand there."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from commands import complaint
from metalit.evaluation import read_results
from metalit.main import main
from miniature import write_photos
from test_docs import DOCS, ROOT, blocks, commands

PAGE = DOCS / "guide" / "your-own-photos.md"
CLASSES = [f"species {number:02}" for number in range(30)]
OWN = ["Buche", "elm & oak", "Ölbaum"]
SMALL = [
    "--data.size=32", "--model.network.image_size=32", "--model.network.channels=8", "--data.decoders=1",
    "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false",
]  # fmt: skip
SHORT = ["--trainer.max_steps=20", "--data.episodes_per_epoch=80", "--data.val_episodes=10"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The folders of the page: 30 classes with unusual and broken files, own classes, and held-back photos."""
    folder = tmp_path_factory.mktemp("page")
    write_photos(folder / "my" / "pictures", CLASSES)
    (folder / "my" / "pictures" / CLASSES[9] / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 this is no photo")
    write_photos(folder / "own", OWN, photos=10)
    for name in OWN:
        files = sorted((folder / "own" / name).iterdir())
        (folder / "my" / "labelled" / name).mkdir(parents=True)
        for file in files[:5]:
            shutil.copy(file, folder / "my" / "labelled" / name)
        (folder / "my" / "photos").mkdir(exist_ok=True)
        for file in files[5:]:
            shutil.copy(file, folder / "my" / "photos" / f"{name} {file.name}")
    shutil.copytree(ROOT / "configs", folder / "configs")
    return folder


def test_the_page(place, monkeypatch, capsys, caplog):
    monkeypatch.chdir(place)
    fit, test, predict, export = (command[2:] for command in commands(PAGE))
    main([*fit, *SMALL, *SHORT])
    assert f"{CLASSES[9]}/broken.jpg" in caplog.text
    capsys.readouterr()
    main([*test, *SMALL, "--data.test_episodes=20"])
    assert read_results(Path("runs/mine"))["metrics"]["accuracy"]["mean"] > 0.4  # twice chance
    main(predict)
    said = " ".join(capsys.readouterr().out.split())
    assert "validation episodes, 3 ways, 5 shots" in said
    assert "keeps 95" in said
    with Path("runs/mine/predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == sorted(path.name for path in Path("my/photos").iterdir())
    assert sum(row["file"].startswith(row["most_likely"]) for row in rows) >= 10  # of 15; 5 is chance
    for row in rows:
        probabilities = {name: float(row[f"P({name})"]) for name in OWN}
        assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
        assert row["most_likely"] == max(probabilities, key=probabilities.get)
        assert row["prediction"] == (row["most_likely"] if row["known"] == "yes" else "none of these")
    with Image.open("runs/mine/predictions.png") as sheet:
        assert min(sheet.size) > 300

    onnxruntime = pytest.importorskip("onnxruntime")
    main(export)
    described = json.loads(Path("my/model.onnx.json").read_text(encoding="utf-8"))
    assert described["classes"] == sorted(OWN)
    assert described["input"]["shape"] == ["n", 3, 32, 32]
    session = onnxruntime.InferenceSession("my/model.onnx")
    with Image.open(next(path for path in Path("my/photos").iterdir() if path.suffix == ".png")) as image:
        side = min(image.size)
        left, top = ((length - side) // 2 for length in image.size)
        square = image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR, (left, top, left + side, top + side))
        name = Path(image.filename).name
    found, confidence = session.run(None, {"x": np.asarray(square).transpose(2, 0, 1)[None]})
    expected = next([float(row[f"P({each})"]) for each in sorted(OWN)] for row in rows if row["file"] == name)
    np.testing.assert_allclose(found[0], expected, atol=1e-4)
    known = next(row["known"] for row in rows if row["file"] == name)
    assert (confidence[0] >= described["none_of_these_below"]) == (known == "yes")

    pytest.importorskip("sklearn")
    variables = {}
    exec("\n".join(blocks(PAGE, "python")), variables)
    predicted = variables["classifier"].predict(sorted(Path("my/photos").iterdir()))
    assert predicted.tolist() == [row["most_likely"] for row in rows]

    # the newest run is found; one photo is as among others; what cannot be read is named
    one = rows[0]["file"]
    main(["predict", "--support", "my/labelled", "--query", f"my/photos/{one}", "--to", "one", "--threshold", "0"])
    said = capsys.readouterr().out
    assert "The run is runs/mine, the newest below runs" in said
    assert "as given" in said
    with Path("one/predictions.csv").open(encoding="utf-8", newline="") as file:
        (alone,) = csv.DictReader(file)
    assert alone["known"] == "yes"
    main([*predict, "--to", "all", "--threshold", "0"])
    with Path("all/predictions.csv").open(encoding="utf-8", newline="") as file:
        among_others = next(csv.DictReader(file))
    for each in OWN:
        assert float(alone[f"P({each})"]) == pytest.approx(float(among_others[f"P({each})"]), abs=2e-6)
    Path("my/photos/empty.png").write_bytes(b"")
    assert "empty.png" in complaint(capsys, lambda: main(predict))
    main([*predict, "--on_bad_file", "skip", "--threshold", "0.5"])
    assert "Left out empty.png: " in capsys.readouterr().out
