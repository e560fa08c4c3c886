"""The engine: a function of one task, run for a batch of tasks, with the gradient of the whole.

The rule of this room: it sees tasks and objectives as functions, whatever the method, and decides only how they are
computed: vectorised or looped, in chunks, compiled. No setting changes the numbers.
"""

from metalit.engine.engine import Engine, Task, split_tasks, with_gradient

__all__ = ["Engine", "Task", "split_tasks", "with_gradient"]
