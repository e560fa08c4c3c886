"""``python -m metalit.data.complexes.synthetic FOLDER [--size pdbbind] [--seed 0]`` writes a synthetic set."""

import argparse
import sys
from collections.abc import Sequence

from metalit.data.complexes.synthetic.making import make_synthetic
from metalit.data.complexes.synthetic.sizes import PLANS
from metalit.errors import UserError


def main(words: Sequence[str] | None = None) -> int:
    """Write the set and print the path of its table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m metalit.data.complexes.synthetic", description=__doc__)
    parser.add_argument("folder", help="where to write complexes.csv and graphs/")
    parser.add_argument("--size", choices=list(PLANS), default="small", help="small (default), or as many as PDBbind")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(words)
    try:
        table = make_synthetic(options.folder, options.size, options.seed)
    except (UserError, OSError) as error:
        parser.error(str(error))  # exit code 2
    sys.stdout.write(f"{table}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
