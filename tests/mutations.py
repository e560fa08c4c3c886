"""Broken configurations, made from right ones by one change each, that know which option they broke.

A right one is an experiment of ``configs/`` in miniature, with more settings of every kind beside its own. Each change
is wrong by construction: ``broken`` yields all there are of one configuration.
"""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from typing import Any, NamedTuple

Settings = dict[str, Any]
Way = tuple[str | int, ...]
HUGE = 2**70  # more than any machine can count
SMALL = {
    "channels": 8, "classes": 12, "eval_classes": 6, "train_ways": 4, "ways": 3, "queries": 2, "train_queries": 2,
    "tasks_per_batch": 2, "eval_tasks_per_batch": 2, "episodes_per_epoch": 4, "val_episodes": 2, "test_episodes": 2,
    "max_steps": 1, "log_every_n_steps": 1,
}  # fmt: skip
EARLY_STOPPING = {
    "class_path": "lightning.pytorch.callbacks.EarlyStopping",
    "init_args": {"monitor": "val/loss", "mode": "min", "patience": 3, "strict": True},
}
MORE: dict[str, Settings] = {
    "": {"threads": 1, "run_dir": "run", "ckpt_path": "last"},
    "model.init_args": {
        "engine": {"mapping": "vmap", "chunk_size": 2, "compile": False, "compile_backend": "inductor"},
        "lr_scheduler": {
            "class_path": "torch.optim.lr_scheduler.StepLR",
            "init_args": {"step_size": 500, "gamma": 0.5},
        },
        "lr_scheduler_interval": "step",
    },
    "data.init_args": {"seed": 0, "num_workers": 0, "eval_tasks_per_batch": 2},
    "trainer": {
        "callbacks": [EARLY_STOPPING],
        "accelerator": "cpu",
        "devices": 1,
        "precision": "32-true",
        "max_epochs": 1,
        "limit_val_batches": 1,
        "accumulate_grad_batches": 1,
        "gradient_clip_val": 10.0,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    },
    "checkpoint": {"every_n_minutes": 10.0, "every_n_steps": 5},
}
# values out of range by the name of the setting
COUNT = (0, -1, HUGE)
RATE = (-0.1, float("nan"), float("inf"))
OUT_OF_RANGE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("shots", "train_shots", "queries", "train_queries"), (*COUNT, -7)),
    **dict.fromkeys(("tasks_per_batch", "eval_tasks_per_batch", "episodes_per_epoch"), COUNT),
    **dict.fromkeys(("val_episodes", "test_episodes"), COUNT),
    "ways": (1, 0, -2, 1000, HUGE),
    "train_ways": (1, -2, 5000, HUGE),
    "classes": (1, -1, HUGE),
    "eval_classes": (1, 0, HUGE),
    "seed": (-1, 2**64, HUGE),
    "num_workers": (-1, HUGE),
    "inner_steps": (-1, HUGE),
    "inner_lr": (0, *RATE),
    "chunk_size": COUNT,
    "lr": RATE,
    "step_size": (0, HUGE),
    "gamma": (float("nan"),),
    "channels": COUNT,
    "inputs": (*COUNT, 3),
    "outputs": COUNT,
    "hidden": ([0], [40, -40], [40, HUGE]),
    "threads": COUNT,
    "seed_everything": (-4, HUGE),
    "max_steps": (-5, HUGE),
    "max_epochs": (-5,),
    "limit_val_batches": (-1, 1.5, float("nan")),
    "accumulate_grad_batches": (0, -1),
    "gradient_clip_val": (float("nan"),),
    "devices": (0, -5),
    "patience": (HUGE,),
    "size": (*COUNT, 5000),
    "decoders": COUNT,
    "shares": ([0.5, 0.5], [0.5, 0.5, 0.5], [1.5, -0.25, -0.25], [float("nan"), 0.5, 0.5]),
    "crop": (-1,),
    **dict.fromkeys(("brightness", "contrast", "saturation"), RATE),
    "erasing": (*RATE, 1.5),
    "every_n_minutes": (0, -1, float("nan")),
    "every_n_steps": COUNT,
}  # fmt: skip
# what is of no use for a choice or a name, by the name of the setting
NO_CHOICE: dict[str, tuple[Any, ...]] = {
    **dict.fromkeys(("mode", "mapping", "downsample", "batch_norm", "lr_scheduler_interval"), ("sideways", 3, ["a"])),
    "monitor": ("val/accurcy", ["a"], {"a": 1}),
    "compile_backend": (["a"], 3),
    "precision": ("12", ["a"]),
    "accelerator": ("tpuu", 3, ["a"]),
    **dict.fromkeys(("fit", "form", "store", "on_bad_file", "small_classes", "split_by"), ("sideways", 3, ["a"], None)),
    "cache_dir": (["a"], {"a": 1}),
    "run_dir": (["a"], {"a": 1}),
    "ckpt_path": (["a"], {"a": 1}),
    "root": (["a"], {"a": 1}),
    "splits": (["a"], {"a": 1}),
}
NEVER_NULL = {
    "model", "data", "trainer", "checkpoint", "class_path", "monitor", "mode", "mapping", "ways", "shots", "queries",
    "tasks_per_batch", "eval_tasks_per_batch", "episodes_per_epoch", "val_episodes", "test_episodes", "seed",
    "num_workers", "inner_steps", "inner_lr", "lr", "channels", "inputs", "outputs", "hidden",
}  # fmt: skip
MISSING = "nowhere/at-all"
NO_PATH: dict[str, tuple[str, ...]] = {
    "ckpt_path": (MISSING, f"{MISSING}.ckpt", "best"),
    "root": (MISSING,),
    "splits": (MISSING,),
    "run_dir": ("c.yaml", "c.yaml/run"),
    "cache_dir": ("c.yaml", "c.yaml/cache"),
}
ABSTRACT = {
    "model": "metalit.algorithms.MetaLearner",
    "data": "metalit.data.EpisodicDataModule",
}
OTHER_KIND = ("metalit.data.Glyphs", "metalit.networks.MLP", "torch.optim.Adam", "fractions.Fraction")
MORE_KEYS = ("zzz", "0", "learning rate")


class Mutation(NamedTuple):
    """A configuration and what is wrong with it.

    Attributes:
        experiment: the configuration it was made from.
        kind: what is wrong: ``key``, ``type``, ``range``, ``path`` or ``class``.
        change: what was done, in words.
        keys: options as the user writes them, one of which has to be named.
        make: makes the broken configuration.
    """

    experiment: str
    kind: str
    change: str
    keys: tuple[str, ...]
    make: Callable[[], Settings]


def whole(settings: Settings, more: Settings) -> Settings:
    """Return an experiment in miniature, with settings of every kind."""
    settings = deepcopy(settings)
    for way, value in list(nodes(settings)):
        if way[-1] in SMALL:
            small = SMALL[str(way[-1])]
            # a list has a number for each block
            put(settings, way, [small] * len(value) if isinstance(value, list) else small)
    for place, extra in {**MORE, **more}.items():
        at(settings, tuple(part for part in place.split(".") if part)).update(deepcopy(extra))
    return settings


def broken(name: str, settings: Settings) -> Iterator[Mutation]:
    """Yield every mutation of a right configuration."""
    for kind, mutate in (
        ("key", wrong_keys),
        ("type", wrong_types),
        ("range", wrong_ranges),
        ("path", wrong_paths),
        ("class", wrong_classes),
    ):
        for change, keys, mutated in mutate(settings):
            yield Mutation(name, kind, change, keys, mutated)


Change = tuple[str, tuple[str, ...], Callable[[], Settings]]


def wrong_keys(settings: Settings) -> Iterator[Change]:
    """Misspell a name, invent one, or put one a level too high or under another heading."""
    for way, value in nodes(settings):
        if isinstance(way[-1], str):
            name = way[-1]
            for wrong in sorted({name[:-1] + name[-2:], name[1:], name[1] + name[0] + name[2:]} - {name}):
                by_group = name in REQUIRED or way[-2:-1] in BY_GROUP
                keys = [dotted((*way[:-1], wrong))] + ([dotted(way[:-1])] if by_group else [])
                yield f"{dotted(way)} -> {wrong}", tuple(keys), partial(renamed, settings, way, wrong)
        if isinstance(value, dict):
            for wrong in MORE_KEYS:
                keys = [dotted((*way, wrong))] + ([dotted(way)] if way[-1:] in BY_GROUP else [])
                yield f"{wrong} in {dotted(way)}", tuple(keys), partial(changed, settings, (*way, wrong), 1)
        if way[-1] == "init_args":
            for name in value:
                moved = partial(changed, settings, (*way[:-1], name), value[name])
                yield f"{dotted((*way, name))} beside class_path", (dotted((*way, name)),), moved
        if way == ("trainer",) or way == ("checkpoint",):
            for name in value:
                yield f"{name} at the top", (name,), partial(changed, settings, (name,), value[name])


# dicts of the user's own: a mistake in one names the dict
BY_GROUP = (("options",), ("columns",))
# names whose group is named if they are missing
REQUIRED = {"class_path", "model", "data", "network", "body", "monitor", "step_size"}


def wrong_types(settings: Settings) -> Iterator[Change]:
    """Put a word for a number, a list for one value, and so on."""
    for way, value in nodes(settings):
        if way[-1] == "init_args":
            continue
        wrong: list[Any] = list(NO_CHOICE.get(str(way[-1]), ()))
        if way[-1] == "class_path":
            wrong = [3, ["a"]]
        elif isinstance(value, bool):
            wrong = ["maybe", 3, [True]]
        elif isinstance(value, int | float):
            wrong = ["lots", [1, 2], {"a": 1}]
        elif isinstance(value, list):
            wrong = [3, "wide", {"a": 1}]
        elif isinstance(value, dict) and "class_path" in value:
            wrong = [3, [1]]
        elif isinstance(value, dict):
            wrong = [3, "word", [1]]
        if way[-1] in NEVER_NULL:
            wrong.append(None)
        if way[-1] == "engine":
            unknown = {"compile": True, "compile_backend": "fast"}
            yield (
                "unknown backend",
                (dotted((*way, "compile_backend")),),
                partial(changed, settings, way, unknown),
            )
        for each in wrong:
            keys = [dotted(way), dotted((*way, "class_path"))] + ([dotted(way[:-1])] if way[-2:-1] in BY_GROUP else [])
            yield f"{dotted(way)} = {each}", tuple(keys), partial(changed, settings, way, each)


def wrong_ranges(settings: Settings) -> Iterator[Change]:
    """Put a number that the setting cannot have."""
    for way, _ in nodes(settings):
        if way[-1] == "ways" and way[0] == "model":
            continue  # it follows the data's
        for each in OUT_OF_RANGE.get(str(way[-1]), ()):
            # torch does not look at it, so metalit can but try the schedule
            keys = (dotted(way), dotted(way[:-2])) if way[-1] == "step_size" else (dotted(way),)
            yield f"{dotted(way)} = {each}", keys, partial(changed, settings, way, each)


def wrong_paths(settings: Settings) -> Iterator[Change]:
    """Name a file or a folder that does not exist, or that cannot be one."""
    for way, _ in nodes(settings):
        for each in NO_PATH.get(str(way[-1]), ()):
            yield f"{dotted(way)} = {each}", (dotted(way),), partial(changed, settings, way, each)


def wrong_classes(settings: Settings) -> Iterator[Change]:
    """Name a class that does not exist, is abstract, or is of another kind."""
    for way, path in nodes(settings):
        if way[-1] != "class_path":
            continue
        module, _, name = path.rpartition(".")
        key = dotted(way[:-1])
        wrong = [f"{module}.{name}{name[-1]}", f"{module}x.{name}", f"{name[1:]}", f"{module}", ""]
        wrong += [ABSTRACT[str(way[-2])]] if way[-2] in ABSTRACT else []
        wrong += [other for other in OTHER_KIND if other.split(".")[1] not in module or other[:3] != module[:3]]
        for each in wrong:
            yield f"{key} is a {each}", (key, f"{key}.class_path"), partial(changed, settings, way, each)


def nodes(settings: Any, way: Way = ()) -> Iterator[tuple[Way, Any]]:
    """Yield every setting and every group of settings with the way to it."""
    inner = settings.items() if isinstance(settings, dict) else enumerate(settings)
    for key, value in inner:
        yield (*way, key), value
        if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
            yield from nodes(value, (*way, key))


def at(settings: Any, way: Way) -> Any:
    """Return what stands there; groups on the way are made."""
    for key in way:
        settings = settings.setdefault(key, {}) if isinstance(settings, dict) else settings[key]
    return settings


def put(settings: Settings, way: Way, value: Any) -> None:
    """Set a setting."""
    at(settings, way[:-1])[way[-1]] = value


def renamed(settings: Settings, way: Way, name: str) -> Settings:
    """Return settings with one setting under another name."""
    mutated = deepcopy(settings)
    group = at(mutated, way[:-1])
    group[name] = group.pop(way[-1])
    return mutated


def changed(settings: Settings, way: Way, value: Any) -> Settings:
    """Return settings with one change."""
    mutated = deepcopy(settings)
    put(mutated, way, value)
    return mutated


@cache  # of the few hundred ways of an experiment, a hundred thousand times
def dotted(way: Way) -> str:
    """Return an option's name as the user writes it."""
    return ".".join(key for key in way if isinstance(key, str) and key != "init_args")
