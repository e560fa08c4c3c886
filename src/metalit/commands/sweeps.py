"""Sweeps: a file that describes many runs of one command by the options in which they differ."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import yaml

from metalit.cli.config_files import check_config_file
from metalit.cli.shipped import PREFIX, config_path
from metalit.cli.values import any_of, nearest
from metalit.errors import SettingError, UserError

SEED = "seed_everything"
PARTS = ("list", "grid", "seeds")
OF_A_POINT = ("run_dir", "ckpt_path")  # each point has its own folder and its own checkpoint
LONGEST_NAME = 200  # bytes; file systems allow 255
Options: TypeAlias = Mapping[str, Any]


class Point(NamedTuple):
    """One run of a sweep."""

    name: str  # readable, valid as a file name, unique in the sweep: seed_everything=0,inner_steps=5
    arguments: tuple[str, ...]  # of the command line, beside the common ones: ("--seed_everything", "0", ...)


def read_sweep(file: str | Path) -> list[Point]:
    """Return the points of a sweep: each entry of its list with each combination of its grid and each seed."""
    try:
        path = config_path(str(file))
        check_config_file(path)
        sweep = yaml.safe_load(path.read_text(encoding="utf-8"))
        for key in sweep:
            if key not in PARTS:
                near = nearest(str(key), PARTS)
                hint = f"did you mean {near}?" if near else f"there are {any_of(PARTS)}"
                raise UserError(f"{key} is no part of a sweep; {hint}")
        if not sweep:
            raise UserError(f"there is nothing in it; expected {any_of(PARTS)}")
        points = [
            {**entry, **dict(cell), **seed}
            for entry, cell, seed in product(read_list(sweep), read_grid(sweep), read_seeds(sweep))
        ]
        arguments = [point_arguments(options) for options in points]
        (common, count), *_ = Counter(arguments).most_common(1)
        if count > 1:
            raise UserError(f"the point {' '.join(common)} is there twice; leave one out")
    except ValueError as error:
        raise UserError(f"sweep: {file}: {error}") from None
    return [Point(*each) for each in zip(point_names(points), arguments, strict=True)]


def command_of(command: Sequence[str], point: Point) -> list[str]:
    """Return a point's command line.

    The point's configuration file comes right after the command's own, so that the options of the command override it;
    the point's other options come last and override everything.
    """
    config = point.arguments[:2] if point.arguments[:1] == ("--config",) else ()
    # Behind the last --config, or behind the command's name if it has none.
    after = [place + 2 for place, word in enumerate(command) if word in ("-c", "--config")]
    after += [place + 1 for place, word in enumerate(command) if word.startswith("--config=")]
    place = max(after, default=1)
    return [*command[:place], *config, *command[place:], *point.arguments[len(config) :]]


def read_list(sweep: Options) -> list[Options]:
    """Return the entries of ``list``; without one, a single entry without options."""
    entries = sweep.get("list", [{}])
    if not isinstance(entries, list) or not entries:
        raise SettingError("list", found(entries), "a list of options, one entry for each point")
    for number, entry in enumerate(entries, 1):
        if not isinstance(entry, dict) or (not entry and "list" in sweep):
            raise UserError(f"entry {number} of list is {found(entry)}, expected options such as data.shots: 5")
        for key, value in entry.items():
            check_option(f"entry {number} of list", key, value)
    return entries


def read_grid(sweep: Options) -> list[tuple[tuple[str, Any], ...]]:
    """Return the combinations of ``grid``, the last option changing fastest; without one, a single empty one."""
    grid = sweep.get("grid", {})
    if not isinstance(grid, dict) or (not grid and "grid" in sweep):
        raise SettingError("grid", found(grid), "options with lists of values, such as data.shots: [1, 5]")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise UserError(f"grid has {key}: {found(values)}, expected a list of the values that it takes")
        for value in values:
            check_option("grid", key, value)
        if any(key in entry for entry in sweep.get("list", ())):
            raise UserError(f"{key} is in grid and in list; leave it out of one")
    return list(product(*([(key, value) for value in values] for key, values in grid.items())))


def read_seeds(sweep: Options) -> list[Options]:
    """Return the seeds as options; without ``seeds``, a single entry without options."""
    if "seeds" not in sweep:
        return [{}]
    count = sweep["seeds"]
    # bool is a subclass of int: "seeds: true" would pass as 1.
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise SettingError("seeds", found(count), "a number of seeds, at least 1 (4 means 0, 1, 2 and 3)")
    if any(SEED in options for options in (*sweep.get("list", ()), sweep.get("grid", {}))):
        raise UserError(f"seeds stands for {SEED}, which list or grid has too; leave out one of them")
    return [{SEED: seed} for seed in range(count)]


def check_option(where: str, key: Any, value: Any) -> None:
    """Refuse anything that cannot be an option and its value."""
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_][\w.]*", key):
        raise UserError(f"{where} has {key!r}, which is no option; they are written as data.shots")
    if key in OF_A_POINT:
        raise UserError(f"{where} has {key}, which a sweep chooses itself: each point has its folder within --run_dir")
    if isinstance(value, dict):
        inner = f"{key}.{next(iter(value), 'NAME')}"
        raise UserError(f"{where} has a mapping for {key}; write its options one by one, such as {inner}: VALUE")
    if key == "config":
        if not isinstance(value, str):
            raise UserError(f"{where} has config: {found(value)}, expected the name of a file")
        check_config_file(config_path(value))


def point_arguments(options: Options) -> tuple[str, ...]:
    """Return options as command-line arguments, the configuration file first, so that the others override it."""
    order = sorted(options, key=lambda key: key != "config")
    return tuple(word for key in order for word in (f"--{key}", argument(options[key])))


def argument(value: Any) -> str:
    """Return a value as a command-line argument."""
    # JSON is YAML, which the option parser reads; str is for dates and the like, which JSON lacks.
    return value if isinstance(value, str) else json.dumps(value, default=str)


def point_names(points: Sequence[Options]) -> list[str]:
    """Name points by the options in which they differ, each option by the shortest part that is unambiguous."""
    keys = list(dict.fromkeys(key for options in points for key in options))
    same = [key for key in keys if all(key in options and options[key] == points[0][key] for options in points)]
    # A single point differs from none, but needs a name.
    keys = [key for key in keys if key not in same or len(points) == 1]
    short = {key: short_name(key, keys) for key in keys}
    names = [
        ",".join(f"{short[key]}={file_name(key, options[key])}" for key in options if key in keys)[:LONGEST_NAME]
        for options in points
    ]
    # Names are equal if they differ only in a character that was cut off or replaced.
    numbers = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return [name if names.count(name) == 1 else f"{name}~{n}" for name, n in zip(names, numbers, strict=True)]


def short_name(key: str, keys: Sequence[str]) -> str:
    """Return the shortest end of a dotted name that no other name shares."""
    parts = key.split(".")
    ends = (".".join(parts[-length:]) for length in range(1, len(parts)))
    return next((end for end in ends if not any(f".{k}".endswith(f".{end}") for k in keys if k != key)), key)


def file_name(key: str, value: Any) -> str:
    """Return a value as part of a file name; for a configuration file, its name and its folder's."""
    text = "-".join(Path(value.removeprefix(PREFIX)).with_suffix("").parts[-2:]) if key == "config" else argument(value)
    return re.sub(r"[^\w.+-]+", "-", text.strip("[]"), flags=re.ASCII).rstrip("-") or "none"


def found(value: Any) -> str:
    """Return the value found, as ``empty`` where YAML has nothing to show."""
    return {"[]": "empty", "{}": "empty", "None": "empty"}.get(str(value), str(value))
