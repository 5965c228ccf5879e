"""Tables from the result files alone.

    python -m experiments.gap_cifar10.report --out=experiments/gap_cifar10/results

Writes `tables.md` beside the results; the tables of the results in this package also go into the README.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from experiments.gap_cifar10 import runs
from experiments.msbp_mnist.report import embed
from experiments.msbp_mnist.tables import markdown, spread
from experiments.sbc_lenet_mnist.results import Record, values
from experiments.sbc_lenet_mnist.tables import mean

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# (setting, depth) -> method -> seed -> content of the result file.
Tables = Mapping[tuple[str, int], Mapping[str, Mapping[int, Record]]]


def load(out: Path) -> dict[tuple[str, int], dict[str, dict[int, Record]]]:
    """All results of a folder.

    Raises:
      ValueError: no results there.
    """
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*_seed*.json"))]
    if not records:
        raise ValueError(f"{out} holds no results: run  python -m experiments.gap_cifar10  first")
    found: dict[tuple[str, int], dict[str, dict[int, Record]]] = {}
    for record in sorted(records, key=lambda record: (record["depth"], record["seed"])):
        cells = found.setdefault((record["setting"], record["depth"]), {})
        cells.setdefault(record["method"], {})[record["seed"]] = record
    return found


def table(cells: Mapping[str, Mapping[int, Record]]) -> str:
    """The methods beside each other."""
    rows = []
    for method in (method for method in runs.METHODS if method in cells):
        mine = cells[method]
        rows.append(
            [
                method,
                str(len(mine)),
                f"{mean(values(mine, 'density')):.3f}",
                spread(values(mine, "test_accuracy", 100)),
                spread(values(mine, "test_accuracy_at_best", 100)),
                f"{mean(values(mine, 'mflops')):.1f}",
                f"{sum(record['wall_seconds'] for record in mine.values()) / len(mine):,.0f}",
            ]
        )
    headings = ["method", "seeds", "density", "test accuracy, %", "at best validation, %"]
    return markdown([*headings, "MFLOPs an image", "seconds"], rows)


def text(tables: Tables) -> str:
    """The tables under their headings."""
    parts = []
    for (setting, depth), cells in tables.items():
        used = next(iter(next(iter(cells.values())).values()))["setting_of_run"]
        updates = used["phases"] * used["phase"] + used["fine_tune"]
        heading = f"### ResNet-{depth}, `{setting}`: {updates:,} updates, batch {used['batch']}"
        parts.append(f"{heading}\n\n{table(cells)}\n")
    return "\n".join(parts)


def write(out: Path) -> None:
    """Writes tables into the folder of the results, and those of our own into the README."""
    tables = load(out)
    (out / "tables.md").write_text(text(tables))
    if out.resolve() == RESULTS.resolve():
        embed(README, text(tables))


def main(argv: Sequence[str]) -> None:
    """Writes everything anew."""
    parser = argparse.ArgumentParser("python -m experiments.gap_cifar10.report")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    try:
        write(parser.parse_args(argv).out)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
