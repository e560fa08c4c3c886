"""Graphs: reading, ragged storage, and the data module of tasks whose examples are graphs.

The rule of this room: a graph that cannot be used is refused by its file and line.
"""

from metalit.data.graphs.ragged import RaggedGraphs
from metalit.data.graphs.task_graphs import TaskGraphs

__all__ = ["RaggedGraphs", "TaskGraphs"]
