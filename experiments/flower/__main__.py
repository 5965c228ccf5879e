"""Runs what is missing of the grid as a Flower app, then writes the tables.

    python -m experiments.flower --seeds=3

Killed and started again with the same command it goes on with the first run that has no result. Needs neither network
nor data: the digits ship inside scikit-learn; `--data=mnist` needs the four files in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.flower import report, runs
    from experiments.flower.methods import METHODS
    from experiments.flower.problem import load
    from experiments.flower.record import missing, record
    from experiments.grid import complete
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m experiments.flower", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--only", action="append", choices=METHODS, help="method, may be repeated; default: all"
    )
    parser.add_argument("--seeds", type=int, default=3, help="runs of each method and setting")
    parser.add_argument("--rounds", type=int, default=40, help="length of a run")
    parser.add_argument("--data", default="digits", choices=report.TITLES, help="what is learned")
    parser.add_argument(
        "--engine",
        default="flower",
        choices=("flower", "plain"),
        help="plain: the same rounds in one process, without Flower",
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="in which Flower's clients run (%(default)s)"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    wanted = [name for name in METHODS if name in (options.only or METHODS)]
    grid = list(runs.grid(options.seeds, options.data, options.rounds, wanted))
    try:
        load(options.data)
    except FileNotFoundError as error:
        sys.exit(str(error))
    if options.engine == "flower":
        by_flower(grid, options.out, options.processes)
    complete(grid, options.out, record, report.write, "tables", keep_compiled=True)


def by_flower(grid: list[runs.Run], out: Path, processes: int) -> None:
    """Runs what is missing in one simulation."""
    left = missing(grid, out)
    if not left:
        return
    try:
        from experiments.flower import app
    except ImportError as error:
        sys.exit(
            f"{error}: install Flower with  pip install 'sparsetrain[train,federated]', or give --engine=plain"
        )
    logging.getLogger("flwr").setLevel(logging.ERROR)  # It tells every message otherwise.

    def each(run: runs.Run, train: app.Train) -> None:
        record(run, out, train, app.ENGINE)
        print(f"{len(grid) - len(missing(grid, out))} of {len(grid)}: {run.name}", flush=True)

    app.simulate(left, each, processes)


if __name__ == "__main__":
    main(sys.argv[1:])
