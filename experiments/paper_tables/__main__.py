"""Runs what is missing of the grid, then writes the tables.

    python -m experiments.paper_tables --seeds=3

Killed and started again with the same command it goes on with the first run that has no result. Needs the folders
ud-english-ewt, sentence-polarity, subjectivity, multi30k-en-de and war-and-peace in $SPARSETRAIN_DATA.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.paper_tables import report, runs
    from experiments.paper_tables.record import record
    from sparsetrain.training import ConfigError
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.paper_tables")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--scratch", type=Path, default=Path("runs/paper_tables"), help="folder of runs going on"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell, at most 10")
    parser.add_argument(
        "--part", action="append", choices=runs.PARTS, help="may be repeated; default: all"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    grid = list(runs.grid(options.seeds, tuple(options.part or runs.PARTS)))
    one = functools.partial(record, scratch=options.scratch)
    complete(grid, options.out, one, report.write, "tables", (ConfigError,))


if __name__ == "__main__":
    main(sys.argv[1:])
