"""Runs what is missing of the grid, then writes the tables.

    python -m experiments.gap_cifar10 --setting=short

Killed and started again with the same command it goes on with the first run that has no result. Needs
`cifar10-jpeg.tar.xz` in $SPARSETRAIN_DATA/cifar10-jpeg.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.gap_cifar10 import report, runs
    from experiments.gap_cifar10.record import record
    from experiments.grid import complete
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.gap_cifar10")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--setting", choices=runs.SETTINGS, default="full", help="length of a run")
    parser.add_argument(
        "--depth", action="append", type=int, choices=(20, 32), help="may be repeated; default: 20"
    )
    parser.add_argument(
        "--only", action="append", choices=runs.METHODS, help="method, may be repeated"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    wanted = options.only or runs.METHODS
    grid = [
        run
        for run in runs.grid(options.setting, tuple(options.depth or (20,)))
        if run.method in wanted
    ]
    complete(grid, options.out, record, report.write, "tables", (FileNotFoundError, ImportError))


if __name__ == "__main__":
    main(sys.argv[1:])
