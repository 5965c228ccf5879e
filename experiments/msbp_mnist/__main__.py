"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.msbp_mnist --out=experiments/msbp_mnist/results --only=table2 --seeds=5 --epochs=20

Killed and started again with the same command it continues. Needs the four MNIST files in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.msbp_mnist import report, runs
    from experiments.msbp_mnist.record import record
    from sparsetrain.training import ConfigError
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")

Grid = Callable[[argparse.Namespace], Iterator[runs.Run]]
# Of a length of its own, by which the report tells these runs from the figures'.
BEYOND_EPOCHS = 4
PARTS: dict[str, Grid] = {
    "table2": lambda options: runs.table2(options.seeds, options.epochs),
    "rows": lambda options: runs.rows(options.seeds, options.epochs),
    "figures": lambda options: runs.figures(options.figure_seeds, options.figure_epochs),
    "beyond": lambda options: runs.beyond(options.figure_seeds, BEYOND_EPOCHS),
    "table5": lambda options: runs.table5(options.table5_seeds, options.epochs),
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.msbp_mnist")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--scratch", type=Path, default=Path("runs/msbp_mnist"), help="folder of runs under way"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=PARTS,
        help="part of the grid, may be repeated; default: all but table5",
    )
    parser.add_argument("--seeds", type=int, default=5, help="runs of each line of table 2")
    parser.add_argument("--epochs", type=int, default=20, help="epochs of the tables' runs")
    parser.add_argument("--figure-seeds", type=int, default=3, help="runs of each cell")
    parser.add_argument("--figure-epochs", type=int, default=3, help="epochs of a cell's runs")
    parser.add_argument("--table5-seeds", type=int, default=1, help="runs of table 5")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    parts = options.only or [part for part in PARTS if part != "table5"]
    grid = [run for part in parts for run in PARTS[part](options)]
    complete(
        grid,
        options.out,
        lambda run, out: record(run, out, options.scratch),
        report.write,
        errors=(ConfigError,),
        keep_compiled=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
