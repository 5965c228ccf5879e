"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.sbc_charlstm_shakespeare                                          # a CPU's budget
    python -m experiments.sbc_charlstm_shakespeare --iterations=16000 --hidden=200 --seeds=3 # the paper's length

Killed and started again with the same command it goes on with the first run that has no result. Needs `input.txt` in
$SPARSETRAIN_DATA/tinyshakespeare.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.sbc_charlstm_shakespeare import report, runs
    from experiments.sbc_charlstm_shakespeare.record import record
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")

PARTS: dict[str, Callable[[int, int, int], Iterator[runs.Run]]] = {
    "table": runs.table,
    "grid": runs.grid,
}


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.sbc_charlstm_shakespeare")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--only", action="append", choices=PARTS, help="part of the grid")
    parser.add_argument("--seeds", type=int, default=1, help="runs of each cell")
    parser.add_argument(
        "--iterations", type=int, default=runs.CPU_ITERATIONS, help="length of a run"
    )
    parser.add_argument("--hidden", type=int, default=128, help="width of the LSTM layers")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    parts = options.only or list(PARTS)
    size = (options.seeds, options.iterations, options.hidden)
    # The table and the grid have runs in common.
    wanted = list(dict.fromkeys(run for part in parts for run in PARTS[part](*size)))
    complete(wanted, options.out, record, report.write)


if __name__ == "__main__":
    main(sys.argv[1:])
