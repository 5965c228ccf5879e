"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.dls --seeds=1

Killed and started again with the same command it goes on with the first run that has no result. Needs the four
MNIST files in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.dls import report, runs
    from experiments.dls.models import MODELS
    from experiments.dls.record import record
    from experiments.grid import complete
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.dls")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--only", action="append", choices=runs.COMPRESSORS, help="method, may be repeated"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each cell")
    parser.add_argument("--iterations", type=int, default=1000, help="length of a run")
    parser.add_argument("--model", choices=MODELS, default="lenet5", help="network and data")
    parser.add_argument("--batch", type=int, default=128, help="images of one client's batch")
    parser.add_argument(
        "--density", action="append", type=float, help=f"may be repeated; default: {runs.DENSITIES}"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    wanted = options.only or list(runs.COMPRESSORS)
    densities = options.density or runs.DENSITIES
    grid = [
        run
        for run in runs.grid(
            options.seeds, options.iterations, densities, options.model, options.batch
        )
        if run.method in wanted
    ]
    complete(grid, options.out, record, report.write)


if __name__ == "__main__":
    main(sys.argv[1:])
