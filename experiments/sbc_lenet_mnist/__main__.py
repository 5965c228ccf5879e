"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.sbc_lenet_mnist --seeds=3

Killed and started again with the same command it goes on with the first run that has no result. Needs the four
MNIST files in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.sbc_lenet_mnist import report, runs
    from experiments.sbc_lenet_mnist.methods import METHODS
    from experiments.sbc_lenet_mnist.record import record
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.sbc_lenet_mnist")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--only", action="append", choices=METHODS, help="method, may be repeated; default: all"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method")
    parser.add_argument("--iterations", type=int, default=2000, help="length of a run")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    wanted = options.only or list(METHODS)
    grid = [run for run in runs.grid(options.seeds, options.iterations) if run.method in wanted]
    complete(grid, options.out, record, report.write)


if __name__ == "__main__":
    main(sys.argv[1:])
