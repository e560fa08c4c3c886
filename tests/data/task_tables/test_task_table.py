import logging

import numpy as np
import pytest
import torch

pytest.importorskip("pyarrow")

from metalit.data import TaskTable
from metalit.data.task_tables.reading import line_of
from metalit.errors import SettingError, UserError
from miniature_tables import columns_of_tasks, write_table

IGNORE = ["batch", "grade"]


def table(file, **changes):
    settings = {"task_column": "task", "target": "y", "ignore": IGNORE, "shots": 3} | changes
    return TaskTable(str(file), **settings)


def tasks_of(data):
    return {split: list(store.task_names) for split, store in data.coded().items()}


@pytest.fixture
def file(tmp_path):
    return write_table(tmp_path / "t.csv", columns_of_tasks())


def changed(tmp_path, name, **columns):
    return write_table(tmp_path / name, columns_of_tasks() | columns)


def test_inputs_are_standardised_numbers_marks_and_one_hot_categories(tmp_path):
    own = columns_of_tasks()
    numbers = list(own["number"])
    numbers[5] = ""
    data = table(changed(tmp_path, "t.csv", number=numbers), splits={"train": [f"t{n:02}" for n in range(12)]})
    x = data.expanded(data.load("train").items)
    assert data.sizes() == {"inputs": x.shape[1], "outputs": 1} == {"inputs": 7, "outputs": 1}
    known = np.delete(np.array(own["number"]), 5)
    expected = (known - known.mean()) / known.std()
    assert np.delete(x[:, 0].numpy(), 5) == pytest.approx(expected, abs=1e-5)
    assert x[5, 0] == 0
    wet = np.array(own["wet"]) == "true"
    assert x[:, 1].numpy() == pytest.approx(wet - wet.mean(), abs=1e-6)
    assert x[:, 2].tolist() == [row == 5 for row in range(96)]  # the mark of an empty cell
    # blue, green, red, any other
    hot = np.array([["blue", "green", "red", None].index(each) for each in own["colour"]])
    assert torch.equal(x[:, 3:], torch.eye(4)[torch.from_numpy(hot)])


def test_all_of_the_coding_comes_from_training_tasks(tmp_path):
    own = columns_of_tasks()
    data = table(write_table(tmp_path / "t.csv", own))
    tested = set(tasks_of(data)["test"])
    for column, value in (("number", 1e6), ("y", -1e6), ("colour", "violet")):
        own[column] = [value if task in tested else cell for task, cell in zip(own["task"], own[column], strict=True)]
    other = table(write_table(tmp_path / "other.csv", own))
    assert other.found_coding() == data.found_coding()
    x = other.expanded(other.load("test").items)
    assert (x[:, -1] == 1).all()  # unseen categories have a place of their own
    assert (x[:, -4:-1] == 0).all()


def test_targets_are_standardised_and_errors_are_in_their_own_units(file):
    data = table(file)
    y = data.load("train").targets
    assert y.mean().item() == pytest.approx(0, abs=1e-9)
    assert y.std(correction=0).item() == pytest.approx(1)
    own = columns_of_tasks()
    named = set(tasks_of(data)["train"])
    expected = [value for task, value in zip(own["task"], own["y"], strict=True) if task in named]
    assert data.own_units(y)[:, 0].numpy() == pytest.approx(expected)


@pytest.mark.parametrize("form", ["csv", "tsv", "semicolon", "bom", "crlf", "parquet"])
def test_forms_of_files_give_the_same_rows(tmp_path, file, form):
    import pyarrow.csv
    import pyarrow.parquet

    own = columns_of_tasks()
    if form == "parquet":
        path = tmp_path / "t.parquet"
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(file), path)
    elif form == "crlf":
        path = tmp_path / "crlf.csv"
        path.write_bytes(file.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n"))
    else:
        delimiter = {"tsv": "\t", "semicolon": ";"}.get(form, ",")
        path = write_table(tmp_path / "own.csv", own, delimiter, "utf-8-sig" if form == "bom" else "utf-8")
    one, other = table(file).load("train"), table(path).load("train")
    assert torch.equal(one.items.numbers, other.items.numbers)
    assert torch.equal(one.targets, other.targets)
    assert one.task_names == other.task_names


def test_the_order_of_rows_decides_neither_splits_nor_coding(tmp_path, file):
    own, order = columns_of_tasks(), np.random.default_rng(0).permutation(96)
    mixed = write_table(tmp_path / "m.csv", {name: [cells[row] for row in order] for name, cells in own.items()})
    assert tasks_of(table(mixed)) == tasks_of(table(file))
    one, other = table(file).found_coding(), table(mixed).found_coding()
    assert one.categories == other.categories
    assert one.numbers[0].mean == pytest.approx(other.numbers[0].mean)


def test_splits_by_column_lists_sizes_and_zero_shot(tmp_path):
    own = columns_of_tasks()
    split = ["train" if task < "t06" else "val" if task < "t09" else "test" for task in own["task"]]
    file = changed(tmp_path, "t.csv", fold=split)
    names = [f"t{number:02}" for number in range(12)]
    by_column = {"train": names[:6], "val": names[6:9], "test": names[9:]}
    assert tasks_of(table(file, split_column="fold")) == by_column
    lists = {"train": names[:2], "test": names[5:6]}
    assert tasks_of(table(file, splits=lists)) == {"val": [], **lists}
    short = {name: cells[7:-4] for name, cells in own.items()}  # t00 has one row, t11 four, the others eight
    file = write_table(tmp_path / "short.csv", short)
    by_size = tasks_of(table(file, split_sizes=[8, 4]))
    assert by_size == {"train": names[1:11], "val": names[11:], "test": names[:1]}
    zero_shot = tasks_of(table(file, zero_shot_below=5))
    assert zero_shot["test"] == [names[0], names[11]]
    assert len(zero_shot["train"]) == 8
    assert len(zero_shot["val"]) == 2


def test_episodes_have_inputs_targets_and_masks(file):
    data = table(file, shots=10, eval_tasks_per_batch=2)
    data.setup("fit")
    episode = data.episodes("train", 0, 4)
    assert episode.support.x.shape == (4, 8, data.sizes()["inputs"])
    assert episode.support.mask.sum(1).tolist() == [7] * 4  # all rows of a task but one
    assert (episode.support.x[:, 7] == 0).all()
    assert data.val_episodes == len(tasks_of(data)["val"])


def test_rows_of_a_group_are_on_one_side(tmp_path):
    data = table(write_table(tmp_path / "t.csv", columns_of_tasks()), group_column="batch", ignore=["grade"])
    data.setup("fit")
    groups = data.stores["train"].groups
    episode = data.streams["train"](0, 200)
    masks = [torch.ones_like(part.x, dtype=torch.bool) if part.mask is None else part.mask for part in episode[:2]]
    for number in range(200):
        rows = [part.x[number][mask[number]].tolist() for part, mask in zip(episode[:2], masks, strict=True)]
        sides = [set(groups[each]) for each in rows]
        assert not sides[0] & sides[1]


def test_classification_has_the_same_labels_in_every_task(file):
    data = table(file, target="grade", ignore=["batch", "y"], shots=4)
    assert data.sizes()["outputs"] == 2
    assert data.found_coding().targets.classes == ("a", "b")
    data.setup("fit")
    support = data.episodes("train", 0, 20).support
    assert support.y.dtype == torch.int64
    assert (support.y.amax(1) == 1).all()
    assert (support.y.amin(1) == 0).all()


def test_several_targets(file):
    data = table(file, target=["y", "number"], ignore=IGNORE)
    assert data.sizes()["outputs"] == 2
    assert data.load("train").targets.shape[1] == 2


def test_the_coding_travels_in_the_checkpoint(tmp_path, file):
    trained = table(file)
    state = {"TaskTable": trained.state_dict()}
    own = columns_of_tasks(seed=1)
    own["number"] = [cell * 100 for cell in own["number"]]
    other = table(write_table(tmp_path / "other.csv", own))
    other.setup("fit")
    stream, before = other.streams["train"], other.stores["train"].items.numbers.clone()
    other.take_over(state)
    assert other.coding == trained.coding
    assert not torch.equal(other.stores["train"].items.numbers, before)
    assert torch.equal(stream.targets, other.stores["train"].targets)
    with pytest.raises(UserError, match="trained to predict y"):
        table(file, target="number").take_over(state)
    del own["number"]
    less = table(write_table(tmp_path / "less.csv", own))
    less.take_over(state)
    with pytest.raises(UserError, match="no column 'number', which the model was trained on"):
        less.coded()


def test_a_table_of_test_tasks_needs_a_checkpoint(file):
    data = table(file, splits="test")
    data.setup("test")
    with pytest.raises(UserError, match="has no training tasks"):
        data.episodes("test", 0, 1)
    data.take_over({"TaskTable": table(file).state_dict()})
    assert data.episodes("test", 0, 1).support.x.shape == (1, 3, data.sizes()["inputs"])


def test_columns_without_a_difference_are_dropped_with_a_sentence(tmp_path, caplog):
    file = changed(tmp_path, "t.csv", same=[7] * 96, empty=[""] * 96, word=["x"] * 96)
    with caplog.at_level(logging.INFO):
        assert table(file).sizes()["inputs"] == table(changed(tmp_path, "u.csv")).sizes()["inputs"]
    assert "left out, as they are the same in all training rows or empty: same, empty, word" in caplog.text


def test_rows_without_a_target_are_left_out_and_counted(tmp_path, caplog):
    y = columns_of_tasks()["y"]
    y[3], y[40] = "", "NaN"
    data = table(changed(tmp_path, "t.csv", y=y))
    with caplog.at_level(logging.INFO):
        stores = data.coded()
    assert sum(len(store.targets) for store in stores.values()) == 94
    assert "2 rows left out" in caplog.text
    assert all(store.targets.isfinite().all() for store in stores.values())


def test_rarer_categories_share_a_code(tmp_path, caplog):
    colours = ["red", "red", "green", "blue"] * 24
    colours[0] = ""
    data = table(changed(tmp_path, "t.csv", colour=colours), max_categories=1, splits={"train": ["t00", "t01"]})
    with caplog.at_level(logging.INFO):
        coded = data.found_coding().categories[0]
    assert coded.values == ("red",)
    assert coded.missing
    assert "2 rarer categories of colour" in caplog.text


BAD = {
    "text among numbers": ({"number": [*["1.5"] * 40, "n/k", *["2"] * 55]}, "t.csv, line 42: .*'number'.*'n/k'"),
    "a decimal comma": ({"number": [*["1.5"] * 40, "2,5", *["2"] * 55]}, "line 42: .*decimal comma"),
    "an infinite number": ({"number": [*[1.5] * 40, "-inf", *[2] * 55]}, "line 42: .*'number' has -inf"),
    "an infinite target": ({"y": [*[1.5] * 40, "inf", *[2] * 55]}, "line 42: .*'y' has inf"),
    "a constant target": ({"y": [2.5] * 96}, "target 'y' is the same in all training rows"),
    "no target at all": ({"y": [""] * 96}, "target y is empty in every row"),
    "a row without a task": ({"task": [*["a"] * 40, "", *["b"] * 55]}, "line 42: .*'task' is empty"),
    "one task only": ({"task": ["a"] * 96}, r"has no tasks in the val split"),
}


@pytest.mark.parametrize(("columns", "message"), BAD.values(), ids=BAD)
def test_bad_cells_are_refused_with_line_and_column(tmp_path, columns, message):
    data = table(changed(tmp_path, "t.csv", **columns))
    with pytest.raises(UserError, match=message):
        data.setup("fit")


def test_bad_files_are_refused(tmp_path, file):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("task,y,x\n")
    (tmp_path / "twice.csv").write_text("task,y,x,x\na,1,2,3\n")
    (tmp_path / "ragged.csv").write_text("task,y,x\na,1,2\nb,1\n")
    (tmp_path / "utf16.csv").write_text("task,y,x\na,1,2\n", encoding="utf-16")
    (tmp_path / "no.parquet").write_text("task,y,x\na,1,2\n")
    messages = {
        "empty.csv": "is empty",
        "header.csv": "no rows below its header",
        "twice.csv": "two columns called 'x'",
        "ragged.csv": "line 3 has 2 cells, the header has 3",
        "utf16.csv": "not text in UTF-8",
        "no.parquet": "not a parquet file",
        "missing.csv": "no file of that name",
    }
    for name, message in messages.items():
        with pytest.raises(UserError, match=message):
            table(tmp_path / name, ignore=[]).coded()


BAD_SETTINGS = {
    "a column that is not there": ({"target": "yield"}, "target", "task, number, colour"),
    "an unknown column to ignore": ({"ignore": ["z"]}, "ignore", "one of the columns"),
    "the target among the features": ({"columns": ["number", "y"]}, "columns", "without the target, y"),
    "the target as the task": ({"task_column": "y"}, "task_column", "another column"),
    "two rules for splits": ({"split_column": "batch", "splits": "seed"}, "splits", "one rule"),
    "sizes in the wrong order": ({"split_sizes": [7, 17]}, "split_sizes", "the larger first"),
    "regression of a text": ({"target": "grade", "kind": "regression", "ignore": []}, "kind", "classification"),
    "two targets of classification": ({"target": ["grade", "y"], "ignore": []}, "target", "a single target"),
}


@pytest.mark.parametrize(("changes", "name", "expected"), BAD_SETTINGS.values(), ids=BAD_SETTINGS)
def test_bad_settings_are_refused_by_name(file, changes, name, expected):
    with pytest.raises(SettingError, match=expected) as caught:
        table(file, **changes).coded()
    assert caught.value.name == name


def test_a_task_in_two_splits_and_an_unknown_task_are_refused(tmp_path, file):
    fold = ["train", *["test"] * 95]
    with pytest.raises(UserError, match=r"line 2: the task t00 is in two splits"):
        table(changed(tmp_path, "t.csv", fold=fold), split_column="fold").coded()
    with pytest.raises(UserError, match="there is no task z"):
        table(file, splits={"train": ["z"]}).coded()


def test_a_class_that_no_training_task_has_is_refused(tmp_path):
    grade = columns_of_tasks()["grade"]
    grade[-1] = "c"
    lists = {"train": ["t00", "t01"], "test": ["t11"]}
    data = table(changed(tmp_path, "t.csv", grade=grade), target="grade", ignore=["y"], splits=lists)
    with pytest.raises(UserError, match="line 97: the class c of 'grade' is in no training task"):
        data.coded()


def test_lines_are_counted_through_line_breaks_in_cells(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('task,y,note\na,1,"two\nlines"\n\nb,2,one\n')
    assert [line_of(path, row) for row in (0, 1)] == [3, 5]
    texts = columns_of_tasks() | {"colour": ["two\nlines", "one"] * 48}
    assert table(write_table(tmp_path / "u.csv", texts)).found_coding().categories[0].values == ("one", "two\nlines")


def test_dates_are_numbers_of_days(tmp_path):
    days = [f"2024-01-{1 + row % 28:02}" for row in range(96)]
    coding = table(changed(tmp_path, "t.csv", number=days)).found_coding()
    assert coding.numbers[0].mean == pytest.approx(19723 + 13, abs=3)  # 2024-01-01 is day 19723


def test_a_parquet_file_is_read_column_by_column(tmp_path, file, monkeypatch):
    import pyarrow.csv
    import pyarrow.parquet

    path, read, original = tmp_path / "t.parquet", [], pyarrow.parquet.ParquetFile.read
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(file), path)

    def noted(self, columns=None, **options):
        read.append(columns)
        return original(self, columns=columns, **options)

    monkeypatch.setattr(pyarrow.parquet.ParquetFile, "read", noted)
    table(path).coded()
    assert len(read) > 2
    assert all(columns is not None and len(columns) == 1 for columns in read)


def test_a_parquet_file_with_a_damaged_column_is_named(tmp_path, file):
    import pyarrow.csv
    import pyarrow.parquet

    path = tmp_path / "t.parquet"
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(file), path, compression="zstd")
    content = bytearray(path.read_bytes())
    middle = slice(200, len(content) // 2)
    content[middle] = b"x" * len(content[middle])
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"t\.parquet"):
        table(path).coded()
