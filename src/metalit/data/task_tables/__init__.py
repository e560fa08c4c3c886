"""Tables of many related tasks: reading, coding, division of tasks, and the data module."""

from metalit.data.task_tables.coding import Cells, TableCoding
from metalit.data.task_tables.task_table import TaskTable

__all__ = ["Cells", "TableCoding", "TaskTable"]
