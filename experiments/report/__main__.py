"""One page over one or many runs, which a person would rather look at than read logs.

    python -m experiments.report --runs=runs/digits,runs/digits_sbp --out=report
    python -m experiments.report --runs='runs/*' --out=report
    python -m experiments.report --runs=experiments/dls/results --out=report

Reads folders of `experiments.main` and result files of the experiments, finished or not. Runs whose
settings differ in nothing but the seed are one row. Writes `report.html`, which needs no other file, and
its charts as PNG.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from experiments.report import read, write


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        "python -m experiments.report", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--runs", required=True, help="folders, files or globs, separated by commas"
    )
    parser.add_argument("--out", type=Path, default=Path("report"), help="folder of the page")
    given = parser.parse_args(arguments)
    try:
        runs = read.find(given.runs)
        path = write.write(runs, given.out)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    pictures = len(list(given.out.glob("*.png")))
    print(f"report: {path}    {len(runs)} runs, {pictures} pictures beside it")


if __name__ == "__main__":
    main()
