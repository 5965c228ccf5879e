"""Runs what is missing of the grid, then writes table and figure.

    python -m experiments.diloco --seeds=3

Killed and started again with the same command it goes on with the first run that has no result. Needs `input.txt` in
$SPARSETRAIN_DATA/tinyshakespeare.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.diloco import record, report, runs
    from experiments.grid import complete
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.diloco")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--seeds", type=int, default=3, help="runs of each cell")
    parser.add_argument("--steps", type=int, default=runs.STEPS, help="steps of every worker")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    complete(
        list(runs.grid(options.seeds, options.steps)),
        options.out,
        functools.partial(record.record, load=functools.cache(record.load)),
        report.write,
        made="table and figure",
        keep_compiled=True,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
