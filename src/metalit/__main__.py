"""``python -m metalit`` is the command ``metalit``."""

from metalit.main import main

main()
