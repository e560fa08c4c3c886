"""Exit codes by which a run, the script of its job and the command line understand one another."""

MISTAKE = 2  # of the user, reported in one line; argparse's own code
STOPPED_EARLY = 75  # a temporary failure, try again: saved after a signal
