"""Runs what is missing of the grid, then writes table and figure.

    python -m experiments.three_levers --seeds=5

Killed and started again with the same command it continues. Needs the four MNIST files in
$SPARSETRAIN_DATA/mnist.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.three_levers import report, runs
    from experiments.three_levers.record import record
    from sparsetrain.training import ConfigError
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.three_levers")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--scratch", type=Path, default=Path("runs/three_levers"), help="folder of runs under way"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell")
    parser.add_argument("--epochs", type=int, default=runs.EPOCHS, help="length of a run")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    complete(
        list(runs.grid(options.seeds, options.epochs)),
        options.out,
        lambda run, out: record(run, out, options.scratch),
        report.write,
        made="table and figure",
        errors=(ConfigError,),
        keep_compiled=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
