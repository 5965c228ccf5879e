"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.gap_fashion_mnist --seeds=5

Killed and started again with the same command it goes on with the first run that has no result. Needs the four
Fashion-MNIST files in $SPARSETRAIN_DATA/fashion-mnist.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.gap_fashion_mnist import record, report, runs
    from experiments.grid import complete
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.gap_fashion_mnist")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=5, help="runs of each cell")
    parser.add_argument(
        "--part", action="append", choices=runs.PARTS, help="may be repeated; default: all"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    grid = list(runs.grid(options.seeds, tuple(options.part or runs.PARTS)))
    complete(
        grid,
        options.out,
        functools.partial(record.record, load=functools.cache(record.load)),
        report.write,
        keep_compiled=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
