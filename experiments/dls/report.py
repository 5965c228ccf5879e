"""Tables and plots from the result files alone.

    python -m experiments.dls.report --out=experiments/dls/results

Writes `tables.md` and PNG files beside the results; the tables of the results in this package also go into the README.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from experiments.dls import runs
from experiments.msbp_mnist.plots import axes_of, save
from experiments.msbp_mnist.report import embed
from experiments.msbp_mnist.tables import markdown, spread
from experiments.sbc_lenet_mnist.results import Record, values
from experiments.sbc_lenet_mnist.tables import mean, times

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).parent / "README.md"
# (method, density) -> seed -> content of the result file.
Cells = Mapping[tuple[str, float], Mapping[int, Record]]


def load(out: Path) -> dict[tuple[str, float], dict[int, Record]]:
    """The longest runs of a folder.

    Raises:
      ValueError: no results there.
    """
    records = [json.loads(path.read_text()) for path in sorted(out.glob("*_seed*.json"))]
    if not records:
        raise ValueError(f"{out} holds no results: run  python -m experiments.dls  first")
    longest = max(record["iterations"] for record in records)
    cells: dict[tuple[str, float], dict[int, Record]] = {}
    for record in sorted(records, key=lambda record: record["seed"]):
        if record["iterations"] == longest:
            key = record["method"], record["density"]
            cells.setdefault(key, {})[record["seed"]] = record
    return cells


def table(cells: Cells) -> str:
    """Accuracy, nearness to the global top-k and cost; nearness is the mean over all points but the first two."""
    rows = []
    for density in (1.0, *runs.DENSITIES):
        for method in runs.COMPRESSORS:
            mine = cells.get((method, density))
            if mine is None:
                continue
            late = {
                name: float(np.mean([record["curves"][name][2:] for record in mine.values()]))
                for name in ("spread", "overlap", "captured")
            }
            rows.append(
                [
                    f"{density:g}",
                    method,
                    str(len(mine)),
                    spread(values(mine, "test_accuracy", 100)),
                    *(["-"] * 3 if method == "dense" else [f"{x:.2f}" for x in late.values()]),
                    times(mean(values(mine, "compression_ratio"))),
                    f"{np.mean([record['selection_ms'] for record in mine.values()]):.1f}",
                ]
            )
    headings = ["density", "method", "seeds", "test accuracy, %", "threshold spread, decades"]
    headings += ["overlap with global", "captured of global's", "ratio, bits", "selection, ms"]
    return markdown(headings, rows)


def text(cells: Cells) -> str:
    """The table under its heading."""
    first = next(iter(next(iter(cells.values())).values()))
    heading = f"### LeNet5 on MNIST, {first['clients']} clients, {first['iterations']:,} iterations"
    return f"{heading}\n\n{table(cells)}\n"


def plot(cells: Cells, density: float, field: str, label: str, path: Path) -> None:
    """One number over iterations, a line for each method at one density."""
    figure, axes = axes_of(f"{label}, density {density:g}", "iterations")
    for method in runs.COMPRESSORS:
        mine = cells.get((method, density))
        if mine:
            curves = [record["curves"] for record in mine.values()]
            level = np.mean([curve[field] for curve in curves], axis=0)
            axes.semilogx(curves[0]["iteration"], level, marker=".", label=method)
    save(figure, axes, path)


def write(out: Path) -> None:
    """Writes tables and plots into the folder of the results, and the tables of our own into the README."""
    cells = load(out)
    (out / "tables.md").write_text(text(cells))
    for density in sorted({density for method, density in cells if method != "dense"}):
        plot(cells, density, "spread", "threshold spread, decades", out / f"spread_{density:g}.png")
        plot(cells, density, "overlap", "overlap with global", out / f"overlap_{density:g}.png")
    if out.resolve() == RESULTS.resolve():
        embed(README, text(cells))


def main(argv: Sequence[str]) -> None:
    """Writes everything anew."""
    parser = argparse.ArgumentParser("python -m experiments.dls.report")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    try:
        write(parser.parse_args(argv).out)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
