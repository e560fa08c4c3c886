"""Data sets as Lightning data modules that serve episodes.

The rule of this room: episode i is a pure function of (seed, split, i), its random numbers come from ``stream.py``
alone, and nothing here knows a method.
"""

from metalit.data.benchmarks import CIFARFS, CUB, FC100, MiniImageNet, TieredImageNet
from metalit.data.complexes import MetaScore
from metalit.data.environment_tasks import EnvironmentTasks
from metalit.data.glyphs import Glyphs
from metalit.data.graphs import TaskGraphs
from metalit.data.image_completion import ImageCompletion
from metalit.data.images import ImageFolder
from metalit.data.images.picture_form import PictureForm
from metalit.data.learn2learn import LearnToLearnTasksets
from metalit.data.module import ClassificationDataModule, EpisodicDataModule
from metalit.data.molecules import FSMol
from metalit.data.omniglot import Omniglot
from metalit.data.rank_share import RankShare
from metalit.data.sinusoid import Sinusoid
from metalit.data.store import ClassStore
from metalit.data.stream import ClassificationStream, EpisodeStream
from metalit.data.task_store import TaskStore
from metalit.data.task_stream import TaskStream
from metalit.data.task_tables import TaskTable
from metalit.data.tasks import TaskDataModule
from metalit.data.texts import CLINC150, Banking77, FewJoint, FewRel, HuffPost, TextClasses
from metalit.functional.augmentation import Augmentation

__all__ = [
    "CIFARFS",
    "CLINC150",
    "CUB",
    "FC100",
    "Augmentation",
    "Banking77",
    "ClassStore",
    "ClassificationDataModule",
    "ClassificationStream",
    "EnvironmentTasks",
    "EpisodeStream",
    "EpisodicDataModule",
    "FSMol",
    "FewJoint",
    "FewRel",
    "Glyphs",
    "HuffPost",
    "ImageCompletion",
    "ImageFolder",
    "LearnToLearnTasksets",
    "MetaScore",
    "MiniImageNet",
    "Omniglot",
    "PictureForm",
    "RankShare",
    "Sinusoid",
    "TaskDataModule",
    "TaskGraphs",
    "TaskStore",
    "TaskStream",
    "TaskTable",
    "TextClasses",
    "TieredImageNet",
]
