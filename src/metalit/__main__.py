"""``python -m metalit`` is the command ``metalit``."""

from metalit.cli import main

main()
