"""The engine: run a function of one task for a batch of tasks, and differentiate the objective of all of them.

The rule of this room: it sees tasks and objectives as functions, of any method, and decides only how they are
computed: vectorised or looped, in chunks, compiled. Settings change speed and
memory, not results; the one exception, a forced ``differentiate: over``, says so.
"""

from metalit.engine.engine import Engine, Task, split_tasks
from metalit.engine.finished import with_gradient

__all__ = ["Engine", "Task", "split_tasks", "with_gradient"]
