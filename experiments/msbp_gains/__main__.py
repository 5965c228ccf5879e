"""Runs what is missing of the grid, then writes tables and plots.

    python -m experiments.msbp_gains

Each block tunes its learning rates first and is evaluated at them. Killed and started again it goes on with the first
run that has no result. Needs the four MNIST files in $SPARSETRAIN_DATA/mnist.
"""

import argparse
import functools
import sys
from collections.abc import Sequence
from pathlib import Path

try:
    from experiments.grid import complete
    from experiments.msbp_gains import record, report, runs, training
except ImportError as error:
    sys.exit(f"{error}: install what the experiment needs with  pip install 'sparsetrain[train]'")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("python -m experiments.msbp_gains")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument(
        "--blocks", type=int, default=len(runs.BLOCKS), help="only so many, from the first"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Runs the grid and reports."""
    options = parse(argv)
    load = functools.cache(training.load)
    recorded = functools.partial(record.record, load=load)
    for block in runs.BLOCKS[: options.blocks]:
        labels = ", ".join(method.label for method in block.methods)
        train = functools.partial(
            complete, out=options.out, record=recorded, write=lambda out: None, keep_compiled=True
        )
        train(list(block.tuning()), made=f"tuned: {block.setup}, {labels}")
        train(record.evaluation(block, options.out), made=f"evaluated: {block.setup}, {labels}")
    report.write(options.out)


if __name__ == "__main__":
    main(sys.argv[1:])
