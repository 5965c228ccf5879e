"""Measures what is missing with 1, 2 and 4 processes, then writes the tables.

    python -m experiments.scaling

Each process is a host of its own, whose link is limited; that needs Linux, root and the commands `ip` and `tc`. Where
the machine does not allow it, `--loopback` measures without limits. Needs MNIST in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

try:
    from experiments.grid import complete, write_once
    from experiments.scaling import report
    from experiments.scaling.jobs import Run, measured
    from experiments.scaling.methods import METHODS
    from experiments.scaling.workloads import WORKLOADS
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.scaling")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--workers", type=int, action="append", help="processes, may be repeated; 1, 2 and 4"
    )
    parser.add_argument("--workload", action="append", choices=WORKLOADS, help="default: all")
    parser.add_argument("--method", action="append", choices=METHODS, help="default: all")
    parser.add_argument("--loopback", action="store_true", help="no hosts, no limits")
    return parser.parse_args(argv)


def record(run: Run, out: Path) -> bool:
    """Measures, unless the result is there."""
    # From a process of its own: here JAX has threads after the first run, and a fork might copy their locks.
    with futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        return write_once(run, out, lambda: apart.submit(measured, run).result())


def main(argv: Sequence[str]) -> None:
    """Measures and reports."""
    options = parse(argv)
    chosen = tuple(options.workload or WORKLOADS), tuple(options.method or METHODS)
    grid = [Run(count, *chosen, options.loopback) for count in options.workers or (1, 2, 4)]
    complete(
        grid,
        options.out,
        record,
        report.write,
        "tables",
        (FileNotFoundError, OSError, RuntimeError),
    )


if __name__ == "__main__":
    main(sys.argv[1:])
